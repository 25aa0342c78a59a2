"""Sizes that are known only at run time."""

from __future__ import annotations

import torch


def int_of(count: torch.Tensor) -> int:
    """The value of a ``(1,)`` tensor, as a size, in a traced module too."""
    value: int = count[0].item()  # type: ignore[assignment]
    torch._check(value >= 1)
    return value
