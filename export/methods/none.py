"""No pruning: the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Method


@dataclass(frozen=True, kw_only=True)
class NoPruning(Method):
    """The vision graph projects every token; it has no ``keep`` and no scores."""

    name: ClassVar[str] = "none"
    summary: ClassVar[str] = "all tokens (no pruning)"
