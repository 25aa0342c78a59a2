"""Which place each value takes when they are sorted."""

from __future__ import annotations

import torch

from .ranking import ranked


def places(values: torch.Tensor) -> torch.Tensor:
    """Place of each value along the last axis, 0 for the highest; of equals the lower index first.

    Args:
        values: ``(..., n)`` float32.

    Returns:
        ``(..., n)`` int64, every place once.
    """
    _, order = ranked(values, descending=True)
    # The inverse of a permutation is what sorts it; as float32, for TensorRT sorts no int64.
    return ranked(order.float(), descending=False)[1]
