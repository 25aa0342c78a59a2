"""``vtp::VisionAttention``: attention of a vision tower, as a node that each target lowers."""

from __future__ import annotations

import torch

from ...trt_plugins.topk_tokens import DOMAIN
from .node import node
from .plain_attention import plain_attention

OP_TYPE = "VisionAttention"


def vision_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attention over all tokens, or over those that a mask lets a token read.

    Args:
        query: ``(images, heads, tokens, head_dim)``.
        key: like query.
        value: like query.
        scale: factor on the dot products.
        mask: boolean ``(tokens, tokens)``; None: all.

    Returns:
        ``(images, tokens, heads, head_dim)``.
    """
    if not torch.compiler.is_exporting():
        return plain_attention(query, key, value, scale, mask)
    images, heads, tokens, head_dim = query.shape
    inputs = (query, key, value) if mask is None else (query, key, value, mask)
    shape = (images, tokens, heads, head_dim)
    (out,) = node(f"{DOMAIN}::{OP_TYPE}", inputs, {"scale": scale}, ((query.dtype, shape),))
    return out
