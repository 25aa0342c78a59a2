"""Export: from a Hugging Face model to a bundle. Needs the ``export`` extra (torch and friends)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .exporter import ExportOptions, Progress, export_model

__all__ = ["ExportOptions", "Progress", "export_model"]


def __getattr__(name: str) -> Any:
    # Lazily, so that the tables of presets, methods and families can be read without torch.
    if name in __all__:
        from . import exporter

        return getattr(exporter, name)
    raise AttributeError(f"module 'vtp.export' has no attribute {name!r}")
