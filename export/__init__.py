"""Export: from a Hugging Face model to a bundle. Needs the ``export`` extra (torch and friends)."""

from __future__ import annotations

from .exporter import ExportOptions, Progress, export_model

__all__ = ["ExportOptions", "Progress", "export_model"]
