"""``vtp::CachedAttention``: causal attention over a KV cache, as a node that each target lowers."""

from __future__ import annotations

import torch

from ...trt_plugins.topk_tokens import DOMAIN
from .node import node
from .plain_attention import plain_attention

OP_TYPE = "CachedAttention"


def cached_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past: tuple[torch.Tensor, torch.Tensor],
    write_index: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Attention of new tokens over what the cache holds and themselves, each up to itself.

    Rows ``0 .. write_index - 1`` of the cache are filled; the new tokens go behind them.

    Args:
        query: ``(batch, heads, tokens, head_dim)``, positions applied.
        key: ``(batch, kv_heads, tokens, head_dim)``, positions applied.
        value: like key.
        past: keys and values, ``(batch, kv_heads, capacity, head_dim)`` each.
        write_index: ``(batch,)`` int64; outside of tracing one for all.
        scale: factor on the dot products.

    Returns:
        ``(batch, tokens, heads, head_dim)``, and the updated keys and values; outside of tracing
        these are the cache itself, written in place.
    """
    if not torch.compiler.is_exporting():
        return _in_place(query, key, value, past, int(write_index[0]), scale)
    batch, heads, tokens, head_dim = query.shape
    out, present_key, present_value = node(
        f"{DOMAIN}::{OP_TYPE}",
        (query, key, value, *past, write_index),
        {"scale": scale},
        (
            (query.dtype, (batch, tokens, heads, head_dim)),
            (past[0].dtype, tuple(past[0].shape)),
            (past[1].dtype, tuple(past[1].shape)),
        ),
    )
    return out, present_key, present_value


def _in_place(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past: tuple[torch.Tensor, torch.Tensor],
    first: int,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens = query.shape[2]
    last = first + tokens
    for cache, new in zip(past, (key, value), strict=True):
        cache[:, :, first:last] = new
    keys, values = (cache[:, :, :last] for cache in past)
    mask = torch.arange(last)[None, :] <= first + torch.arange(tokens)[:, None]
    return plain_attention(query, keys, values, scale, mask), *past
