"""Keep: how many image tokens stay, as a ratio or a count."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...errors import KeepOutOfRange

Keep = int | float
"""Kept image tokens: a float is a ratio in (0, 1], an int is a count of tokens per image."""
Keeps = Keep | Sequence[Keep]
"""One keep, or one for each drop of a plan, in order."""

ROUNDINGS = ("half-even", "floor")
"""How a ratio becomes a count: to the nearest, half to even, or down."""
# 0.29 * 100 is 28.999999999999996: a product this near below a whole number means that number.
_FLOOR_SLACK = 1e-9


def keep_count(keep: Keep, total: int, rounding: str = "half-even") -> int:
    """How many of ``total`` tokens a keep means; a ratio leaves at least 1.

    FasterVLM's own counts for 576 tokens follow from ``half-even``: 432, 288, 144, 58, 29 for 0.75,
    0.5, 0.25, 0.1, 0.05.

    Raises:
        KeepOutOfRange: not a ratio in (0, 1] nor a count in 1..total.
    """
    check_keep(keep, total)
    if not isinstance(keep, float):
        return int(keep)
    product = total * keep
    count = math.floor(product + _FLOOR_SLACK * total) if rounding == "floor" else round(product)
    return max(1, count)


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


def keep_ratio(keep: Keep, total: int) -> float:
    """The keep as a ratio of ``total``."""
    return keep if isinstance(keep, float) else keep / total


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


def parse_keeps(text: str) -> Keeps:
    """One keep, or several with commas between: ``0.5,0.25,0.125``.

    Raises:
        KeepOutOfRange: one of them is no keep.
    """
    parts = text.split(",")
    return parse_keep(text) if len(parts) == 1 else tuple(parse_keep(part) for part in parts)


def show_keeps(keeps: Sequence[Keep]) -> str:
    """Keeps as they are typed; ``1.0`` for none."""
    return ",".join(str(keep) for keep in keeps) or "1.0"
