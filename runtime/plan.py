"""The plan: where image tokens are dropped, how many stay, by which score and positions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ..errors import KeepOutOfRange, ManifestInvalid

Keep = int | float
"""Kept image tokens of each image: a float is a ratio in (0, 1], an int is a count."""

POSITIONS = ("compact",)


def keep_count(keep: Keep, total: int) -> int:
    """How many of ``total`` tokens a keep means.

    A ratio means ``round(total * ratio)``, half to even, at least 1.

    FasterVLM's own counts for 576 tokens follow: 432, 288, 144, 58, 29 for 0.75, 0.5, 0.25, 0.1,
    0.05.

    Raises:
        KeepOutOfRange: not a ratio in (0, 1] nor a count in 1..total.
    """
    check_keep(keep, total)
    return max(1, round(total * keep)) if isinstance(keep, float) else int(keep)


def check_keep(keep: Keep, total: int | None = None) -> None:
    """Refuse a keep out of range; ``total`` is the most a count may be, where it is known.

    Raises:
        KeepOutOfRange: as for ``keep_count``.
    """
    number = not isinstance(keep, bool) and isinstance(keep, (int, float))
    if isinstance(keep, float):
        fits = math.isfinite(keep) and 0.0 < keep <= 1.0
    else:
        fits = number and keep >= 1 and (total is None or keep <= total)
    if not (number and fits):
        raise KeepOutOfRange(keep, total)


def parse_keep(text: str) -> Keep:
    """A keep as typed: ``0.1`` and ``1.0`` are ratios, ``58`` and ``1`` are counts.

    Raises:
        KeepOutOfRange: neither.
    """
    try:
        keep: Keep = int(text) if text.strip().lstrip("+").isdigit() else float(text)
    except ValueError:
        raise KeepOutOfRange(text) from None
    check_keep(keep)
    return keep


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A run of language layers with one KV length."""

    first: int
    """First layer."""
    stop: int
    """One past the last layer."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a bundle prunes, as plain data."""

    method: str
    """Name of the method; ``none`` for a bundle without pruning."""
    parameters: dict[str, Any]
    """The method's parameters."""
    prunes: bool
    """Whether the vision graph takes ``keep`` and selects."""
    score_layer: int | None
    """Encoder layer whose attention is the score, counted from 0; None if it is not attention."""
    tokens: int
    """Image tokens of one image before pruning."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    keep: int | float
    """Default keep."""
    positions: str
    """How kept tokens are numbered; ``compact``: anew from zero, without gaps."""
    stages: tuple[Stage, ...]
    """The language graphs, in order."""

    def __post_init__(self) -> None:
        if self.tokens != self.grid[0] * self.grid[1] or self.tokens < 1:
            raise ManifestInvalid("plan.grid", f"{self.grid} does not hold {self.tokens} tokens")
        try:
            check_keep(self.keep, self.tokens)
        except KeepOutOfRange as error:
            raise ManifestInvalid("plan.keep", str(error)) from error
        if self.positions not in POSITIONS:
            raise ManifestInvalid("plan.positions", f"{self.positions!r} is not in {POSITIONS}")
        if not self.stages:
            raise ManifestInvalid("plan.stages", "at least one stage is needed")

    def count(self, keep: Keep | None) -> int:
        """Kept tokens of each image; ``None`` means the plan's default.

        Raises:
            KeepOutOfRange: out of range, or below all tokens where the bundle does not prune.
        """
        if not self.prunes:
            if keep is not None and keep_count(keep, self.tokens) != self.tokens:
                raise KeepOutOfRange(keep, self.tokens, prunes=False)
            return self.tokens
        return keep_count(self.keep if keep is None else keep, self.tokens)
