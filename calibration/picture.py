"""Accuracy against time, as a picture: one line a bundle, one mark a keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 720, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 40, 30, 56
_ROW = 15
_LETTER = 7
_COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8a5fbf", "#b8860b", "#4b5563")


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One keep of one bundle."""

    series: str
    """The bundle."""
    label: str
    """The keep."""
    ms: float
    """Time to the first token."""
    percent: float
    """Accuracy, or agreement."""
    best: bool
    """Whether nothing is faster and better: filled, else hollow."""
    chosen: bool = False
    """Whether a ring is drawn around it."""


def draw(marks: Sequence[Mark], measure: str, floor: float | None) -> str:
    """The text of an SVG file.

    Args:
        marks: at least one.
        measure: what ``percent`` is, for the axis.
        floor: a dashed line at this percentage, such as the lowest that is accepted.
    """
    low_x, high_x = _range([mark.ms for mark in marks], 0.0, math.inf)
    heights = [mark.percent for mark in marks] + ([] if floor is None else [floor])
    low_y, high_y = _range(heights, 0.0, 100.0)
    names = list(dict.fromkeys(mark.series for mark in marks))
    top = _TOP + _ROW * len(names)

    def x(ms: float) -> float:
        return _LEFT + (ms - low_x) / (high_x - low_x) * (_WIDTH - _LEFT - _RIGHT)

    def y(percent: float) -> float:
        return _HEIGHT - _BOTTOM - (percent - low_y) / (high_y - low_y) * (_HEIGHT - top - _BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for value in _ticks(low_y, high_y):
        parts.append(_line(_LEFT, y(value), _WIDTH - _RIGHT, y(value), "#e5e7eb"))
        parts.append(_text(_LEFT - 8, y(value) + 4, f"{value:g}", "end"))
    for value in _ticks(low_x, high_x):
        parts.append(_line(x(value), top, x(value), _HEIGHT - _BOTTOM, "#e5e7eb"))
        parts.append(_text(x(value), _HEIGHT - _BOTTOM + 18, f"{value:g}", "middle"))
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(_text(middle, _HEIGHT - 14, "time to the first token, ms (median)", "middle"))
    parts.append(_text(_LEFT, 18, f"{measure}, %", "start"))
    if floor is not None:
        across = _line(_LEFT, y(floor), _WIDTH - _RIGHT, y(floor), "#6b7280")
        parts.append(across.replace("/>", ' stroke-dasharray="6 4"/>'))
    for number, series in enumerate(names):
        colour = _COLOURS[number % len(_COLOURS)]
        own = sorted((m for m in marks if m.series == series), key=lambda m: (m.ms, m.percent))
        path = " ".join(f"{x(m.ms):.1f},{y(m.percent):.1f}" for m in own)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" opacity="0.5"/>')
        free = [-math.inf, -math.inf]
        for turn, mark in enumerate(own):
            at = f'cx="{x(mark.ms):.1f}" cy="{y(mark.percent):.1f}"'
            fill = colour if mark.best else "#ffffff"
            told = escape(f"{series}, keep {mark.label}: {mark.percent:.2f} %, {mark.ms:.2f} ms")
            parts.append(
                f'<circle {at} r="4" fill="{fill}" stroke="{colour}"><title>{told}</title></circle>'
            )
            if mark.chosen:
                parts.append(f'<circle {at} r="8" fill="none" stroke="{colour}"/>')
            # Above and below in turn; one that would lie on its neighbour is left to its title.
            side, start = turn % 2, x(mark.ms) + 4
            if start >= free[side] or mark.chosen:
                free[side] = start + _LETTER * (len(mark.label) + 1)
                beside = y(mark.percent) + (17 if side else -9)
                parts.append(_text(start, beside, mark.label, "start", colour))
        parts.append(_text(_WIDTH - _RIGHT, 18 + _ROW * number, series, "end", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _range(values: Sequence[float], least: float, most: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return max(least, low - room), min(most, high + room)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers within, some five of them."""
    rough = (high - low) / 5
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(number * step, 9) for number in range(first, last + 1)]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#374151") -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {where} fill="{colour}">{escape(text)}</text>'
