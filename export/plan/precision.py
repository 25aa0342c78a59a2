"""Which types of weights go together with which targets."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import OptionInvalid, TargetLacksType
from ...runtime.bundle.manifest import BLOCKS, DTYPES, WeightsRecord
from ..targets import DEFAULT_TARGETS, check_targets, make_target

WEIGHTS = {"int4": 4, "int8": 8}
"""Quantized weights, with their bits."""
DEFAULT_BLOCK = 32
"""See ``docs/decisions/0018-low-precision-weights.md``."""


def chosen_targets(targets: Sequence[str] | None, dtype: str) -> tuple[str, ...]:
    """The targets of an export.

    Args:
        targets: what was asked for; None takes those of the defaults that have the type.
        dtype: type of the weights.

    Raises:
        OptionInvalid: no such type or target.
        TargetLacksType: a target that was asked for has no such type.
    """
    if dtype not in DTYPES:
        raise OptionInvalid("dtype", dtype, f"one of {', '.join(DTYPES)}")
    if targets is None:
        return tuple(name for name in DEFAULT_TARGETS if dtype in make_target(name).dtypes)
    check_targets(targets)
    for name in targets:
        dtypes = make_target(name).dtypes
        if dtype not in dtypes:
            raise TargetLacksType(
                name, dtype, f"give one of {', '.join(dtypes)}, or another target"
            )
    return tuple(targets)


def quantized_weights(
    weights: str | None, block: int, symmetric: bool, targets: Sequence[str]
) -> WeightsRecord | None:
    """How the matrices are quantized; None: not at all.

    Args:
        weights: a key of ``WEIGHTS``, or None.
        block: weights that share a scale.
        symmetric: without zero points.
        targets: of the export.

    Raises:
        OptionInvalid: an option outside what it accepts, or one that changes nothing.
        TargetLacksType: a target takes no zero points.
    """
    if weights is None:
        if not symmetric:
            raise OptionInvalid(
                "symmetric", symmetric, "it only together with weights int4 or int8"
            )
        return None
    if weights not in WEIGHTS:
        raise OptionInvalid("weights", weights, f"one of {', '.join(WEIGHTS)}")
    if block not in BLOCKS:
        raise OptionInvalid("block", block, f"one of {', '.join(map(str, BLOCKS))}")
    for name in targets:
        if not symmetric and not make_target(name).zero_points:
            raise TargetLacksType(name, "zero points", "give --symmetric, or only --target ort")
    return WeightsRecord(bits=WEIGHTS[weights], block=block, symmetric=symmetric)
