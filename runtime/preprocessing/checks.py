"""Which values the settings of a preprocessing may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import ManifestInvalid
from ..media.frame_sampling import FrameSampling
from ..media.growth import MAX_GRID, MAX_SIDE
from .levels import MAX_NUMBER, is_number

Rule = tuple[str, Callable[[Any], bool], str]
"""A field, whether a value of it is right, and what is accepted."""

RESAMPLES = ("bicubic", "bilinear", "lanczos", "nearest")

PIXELS = f"a whole number of pixels in 1..{MAX_SIDE}"
SMALLEST = 1 / MAX_NUMBER


def is_whole(value: object, low: int, high: int) -> bool:
    """Whether a value is a whole number in low..high."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def is_side(value: object) -> bool:
    """Whether a value is a number of pixels that an input may have along one edge."""
    return is_whole(value, 1, MAX_SIDE)


def is_positive(value: Any) -> bool:
    """Whether a value can be a divisor."""
    return is_number(value) and value >= SMALLEST


def are(value: object, count: int, right: Callable[[Any], bool]) -> bool:
    """Whether a value is a tuple of ``count`` items, each of which is right."""
    return isinstance(value, tuple) and len(value) == count and all(map(right, value))


def is_colour(value: object) -> bool:
    """Whether a value is a colour of three bytes, or None."""
    return value is None or are(value, 3, lambda part: is_whole(part, 0, 255))


def whole(field: str, low: int, high: int, unit: str = "") -> Rule:
    """The rule of a whole number."""
    return (
        field,
        lambda value: is_whole(value, low, high),
        f"a whole number {unit}in {low}..{high}",
    )


def among(field: str, names: Sequence[str]) -> Rule:
    """The rule of a name."""
    return field, lambda value: value in names, f"one of {', '.join(names)}"


COLOUR: Rule = ("pad_to_square", is_colour, "three whole numbers in 0..255, or null")

LEVELS: tuple[Rule, ...] = (
    among("resample", RESAMPLES),
    ("rescale", is_positive, f"a number above 0, {SMALLEST:g}..{MAX_NUMBER:g}"),
    (
        "mean",
        lambda value: are(value, 3, is_number),
        f"three numbers of at most {MAX_NUMBER:g}",
    ),
    (
        "std",
        lambda value: are(value, 3, is_positive),
        f"three numbers above 0, {SMALLEST:g}..{MAX_NUMBER:g}",
    ),
)
"""Of the fields ``resample``, ``rescale``, ``mean`` and ``std``."""

GRID: Rule = (
    "grid",
    lambda value: are(value, 2, lambda part: is_whole(part, 1, MAX_GRID)),
    f"[rows, columns], each a whole number in 1..{MAX_GRID}",
)

SAMPLING: Rule = (
    "sampling",
    lambda value: value is None or isinstance(value, FrameSampling),
    "an object, or null",
)


def problem(values: Mapping[str, Any], rules: Sequence[Rule]) -> tuple[str, str] | None:
    """The first field whose value is not right, and what is accepted; None if all are right."""
    for field, right, accepted in rules:
        if field in values and not right(values[field]):
            return field, accepted
    return None


def check_manifest(
    values: Mapping[str, Any], rules: Sequence[Rule], where: str = "manifest.preprocessing"
) -> None:
    """Refuse settings of our own.

    Raises:
        ManifestInvalid: A value is not right; ``where`` is the place of the settings.
    """
    if found := problem(values, rules):
        field, accepted = found
        raise ManifestInvalid(
            f"{where}.{field}", f"{values[field]!r} is not accepted: give {accepted}"
        )
