"""Attention by its definition, in PyTorch: what the operators compute where nothing is traced."""

from __future__ import annotations

import torch


def plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Softmax of the scaled products in float32, times the values.

    Args:
        query: ``(batch, heads, tokens, head_dim)``.
        key: ``(batch, kv_heads, columns, head_dim)``; each serves ``heads / kv_heads`` query heads.
        value: like key.
        scale: factor on the dot products.
        mask: boolean, ``(tokens, columns)``, what a token may read; None: all.

    Returns:
        ``(batch, tokens, heads, head_dim)``.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    logits = (query @ key.transpose(2, 3) * scale).float()
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return (torch.softmax(logits, dim=-1).to(value.dtype) @ value).transpose(1, 2)
