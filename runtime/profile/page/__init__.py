"""The profile as one HTML page: nothing is loaded from elsewhere, nothing is run."""

from __future__ import annotations

from .page import page

__all__ = ["page"]
