"""Cosine similarity of tokens."""

from __future__ import annotations

import torch


def cosines(tokens: torch.Tensor) -> torch.Tensor:
    """Cosine of every pair, exactly symmetric.

    Args:
        tokens: ``(images, n, width)``.

    Returns:
        ``(images, n, n)`` float32.
    """
    unit = directions(tokens)
    found = torch.matmul(unit, unit.transpose(1, 2))
    # A matrix product need not be symmetric in its last bits; where a pair's two cosines decide
    # which of the two is picked, every engine shall see a tie.
    return torch.maximum(found, found.transpose(1, 2))


def directions(tokens: torch.Tensor) -> torch.Tensor:
    """``(..., width)`` -> the same at length 1, float32; zeros stay zeros."""
    return torch.nn.functional.normalize(tokens.float(), dim=-1)
