"""One kind of figure: rows of stacked horizontal bars as inline SVG, with axis, unit and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _VALUES = 860, 96
"""Of the whole, of the totals on the right."""
_LETTER, _BESIDE = 8.2, 40
"""Width of a letter of the row labels on the left, and of what is around them."""
_ROW, _BAR, _TOP, _AXIS = 42, 24, 26, 34
_GAP = 1.5
_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Part:
    """A piece of a bar."""

    name: str
    value: float
    colour: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bar."""

    label: str
    note: str
    """Small, under the label."""
    parts: tuple[Part, ...]
    total: str
    """Beside the bar."""


def bars(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    unit: str,
    mark: tuple[str, float] | None = None,
    most: float | None = None,
) -> str:
    """The figure.

    Args:
        name: unique on the page.
        title: read aloud in place of the picture.
        description: what it shows, in a sentence.
        rows: from top to bottom.
        unit: of the axis.
        mark: a dashed line across all rows: its label and where it stands.
        most: end of the axis; None fits it to the bars.
    """
    end = most or max((sum(part.value for part in row.parts) for row in rows), default=0.0) or 1.0
    step = nice_step(end)
    ticks = [step * number for number in range(int(end / step + 1e-9) + 1)]
    longest = max((len(text) for row in rows for text in (row.label, row.note)), default=0)
    left = _BESIDE + _LETTER * longest
    plot = _WIDTH - left - _VALUES
    bottom = _TOP + _ROW * len(rows)

    def x(value: float) -> float:
        return left + plot * value / end

    drawn = [
        f'<svg viewBox="0 0 {_WIDTH} {bottom + _AXIS}" role="img" '
        f'aria-labelledby="{name}-title {name}-text">',
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-text">{escape(description)}</desc>',
    ]
    for tick in ticks:
        at = f"{x(tick):.1f}"
        drawn.append(
            f'<line class="grid" x1="{at}" y1="{_TOP - 6}" x2="{at}" y2="{bottom}"/>'
            f'<text class="faint" x="{at}" y="{bottom + 17}" text-anchor="middle">{tick:g}</text>'
        )
    drawn.append(
        f'<text class="faint" x="{_WIDTH - 4}" y="{bottom + 17}" text-anchor="end">'
        f"{escape(unit)}</text>"
    )
    for number, row in enumerate(rows):
        drawn += _row(row, _TOP + _ROW * number, x)
    if mark is not None:
        text, value = mark
        at = f"{x(value):.1f}"
        early = value < end * 0.7
        drawn.append(
            f'<line class="mark" x1="{at}" y1="{_TOP - 8}" x2="{at}" y2="{bottom}"/>'
            f'<text class="faint" x="{at}" y="{_TOP - 13}" '
            f'text-anchor="{"start" if early else "end"}">{escape(text)}</text>'
        )
    return "\n".join([*drawn, "</svg>"])


def _row(row: Row, top: float, x: Callable[[float], float]) -> list[str]:
    middle = top + _ROW / 2
    # One line stands in the middle, two around it.
    apart = bool(row.label and row.note)
    lines = [("", row.label, -1 if apart else 5), (' class="faint"', row.note, 14 if apart else 4)]
    drawn = [
        f'<text{style} x="{x(0.0) - 12:.1f}" y="{middle + down:.1f}" text-anchor="end">'
        f"{escape(text)}</text>"
        for style, text, down in lines
        if text
    ]
    at = 0.0
    for part in row.parts:
        left, right = x(at), x(at + part.value)
        at += part.value
        if part.value <= 0:
            continue
        width = max(right - left - _GAP, 0.6)
        drawn.append(
            f'<rect x="{left:.1f}" y="{middle - _BAR / 2:.1f}" width="{width:.1f}" '
            f'height="{_BAR}" rx="2" fill="{part.colour}">'
            f"<title>{escape(row.label)}, {escape(part.name)}: {part.value:.4g}</title></rect>"
        )
    drawn.append(
        f'<text class="strong" x="{x(at) + 8:.1f}" y="{middle + 5:.1f}">{escape(row.total)}</text>'
    )
    return drawn


def nice_step(end: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that makes some five ticks up to ``end``."""
    rough = end / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next((power * f for f in (1, 2, 5) if power * f >= rough), power * 10)
