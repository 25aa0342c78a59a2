"""Shares of a count that is known only at run time."""

from __future__ import annotations

from fractions import Fraction

import torch

from ...errors import ParameterInvalid

_DENOMINATOR = 1000


def floor_share(count: torch.Tensor, share: float) -> torch.Tensor:
    """``int(count * share)`` of a ``(1,)`` int64 count, in whole numbers.

    The share is taken as the fraction that its digits mean, so that 0.29 of 100 is 29 on every
    engine.
    """
    fraction = Fraction(share).limit_denominator(_DENOMINATOR)
    return count * fraction.numerator // fraction.denominator


def check_share(method: str, name: str, value: object) -> None:
    """Refuse a parameter that is no share below 1.

    Raises:
        ParameterInvalid: naming the range.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise ParameterInvalid(method, name, value, "a share from 0 up to, not including, 1")
