"""Target ``trt10``: primitive operators of opset 20, for TensorRT 10.0 to 10.14 (JetPack 6).

Attention is written as two products and a softmax, norms and rotary embeddings stay in their parts.
A language graph reads the filled rows of its cache, and gives out the rows of the new tokens, which
the runtime lets it write right behind those: nothing is copied, and only filled rows are read. See
``docs/decisions/0013-an-appended-cache-for-tensorrt-10.md``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from .base import CacheStep


class Trt10Target:
    """Graphs that TensorRT 10.3 parses."""

    name: ClassVar[str] = "trt10"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    zero_points: ClassVar[bool] = False
    opset: ClassVar[int] = 20
    appends: ClassVar[bool] = True

    def vision_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Two products and a softmax in float32."""
        logits = (query * scale @ key.transpose(2, 3)).float()
        if mask is not None:
            logits = torch.where(mask, logits, torch.finfo(torch.float32).min)
        weights = torch.softmax(logits, dim=-1)
        return (weights.to(value.dtype) @ value).transpose(1, 2)

    def cached_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        layer: int,
        step: CacheStep,
    ) -> torch.Tensor:
        """Attention over the filled rows and the new ones, each row up to itself.

        The query heads that share a key head are laid one under the other, so that keys and values
        are not repeated.
        """
        batch, heads, tokens, head_dim = query.shape
        shared = heads // key.shape[1]
        rows = key.transpose(1, 2), value.transpose(1, 2)
        keys, values = (
            torch.cat((past, new), dim=1).transpose(1, 2)
            for past, new in zip(step.past[layer], rows, strict=True)
        )
        if not step.shared:
            columns = torch.arange(keys.shape[2])
            rows_of = torch.add(torch.arange(tokens), step.start)
            step.shared["mask"] = columns[None, :] <= rows_of[:, None]
        stacked = (query * scale).reshape(batch, key.shape[1], shared * tokens, head_dim)
        logits = (stacked @ keys.transpose(2, 3)).float()
        logits = logits.reshape(batch, key.shape[1], shared, tokens, keys.shape[2])
        lowest = torch.finfo(torch.float32).min
        weights = torch.softmax(torch.where(step.shared["mask"], logits, lowest), dim=-1)
        weights = weights.reshape(batch, key.shape[1], shared * tokens, keys.shape[2])
        out = (weights.to(values.dtype) @ values).reshape(batch, heads, tokens, head_dim)
        step.present.append(rows)
        step.keys.append(keys)
        return out.transpose(1, 2)

    def lower(self, model: Any, gapless: bool) -> None:
        """Nothing more: the traced graph is primitive already."""
