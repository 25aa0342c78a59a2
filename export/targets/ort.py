"""Target ``ort``: ONNX Runtime's own fused attention operators.

``GroupQueryAttention`` pays only for the filled rows of the cache, where the standard operator
pays for the whole capacity, and it writes into the cache in place when past and present are bound
to one buffer. See ``docs/decisions/0002-two-targets.md``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..ops.attention import symbolic
from ..passes.fold_rotary import fold_rotary_into_attention
from .base import CacheStep


def _rows(x: torch.Tensor) -> torch.Tensor:
    """``(batch, heads, tokens, head_dim)`` -> ``(batch, tokens, heads * head_dim)``."""
    return x.transpose(1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


class OrtTarget:
    """Graphs for ONNX Runtime, CPU and CUDA."""

    name: ClassVar[str] = "ort"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")
    zero_points: ClassVar[bool] = True
    opset: ClassVar[int] = 23
    # The newest that ONNX Runtime 1.23 knows, the last version for Python 3.10 (JetPack 6).
    appends: ClassVar[bool] = False

    def vision_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``com.microsoft.MultiHeadAttention``: tiled, never holds the full score matrix."""
        batch, heads, tokens, head_dim = query.shape
        inputs: tuple[torch.Tensor | None, ...] = (_rows(query), _rows(key), _rows(value))
        if mask is not None:
            hidden = torch.full((), torch.finfo(query.dtype).min, dtype=query.dtype)
            bias = torch.where(mask, torch.zeros((), dtype=query.dtype), hidden)
            inputs += (None, None, bias[None, None])
        (out,) = symbolic(
            "com.microsoft::MultiHeadAttention",
            inputs,
            {"num_heads": heads, "scale": scale},
            ((query.dtype, (batch, tokens, heads * head_dim)),),
        )
        return out.reshape(batch, tokens, heads, head_dim)

    def cached_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        layer: int,
        step: CacheStep,
    ) -> torch.Tensor:
        """``com.microsoft.GroupQueryAttention`` with past and present of equal shape."""
        batch, heads, tokens, head_dim = query.shape
        assert step.write_index is not None
        if not step.shared:
            last = step.write_index + (tokens - 1)
            step.shared["seqlens_k"] = last.to(torch.int32)
            step.shared["total"] = (last.max() + 1).to(torch.int32)
        past_key, past_value = step.past[layer]
        out, present_key, present_value = symbolic(
            "com.microsoft::GroupQueryAttention",
            (
                _rows(query),
                _rows(key),
                _rows(value),
                past_key,
                past_value,
                step.shared["seqlens_k"],
                step.shared["total"],
            ),
            {"num_heads": heads, "kv_num_heads": key.shape[1], "scale": scale},
            (
                (query.dtype, (batch, tokens, heads * head_dim)),
                (past_key.dtype, tuple(past_key.shape)),
                (past_value.dtype, tuple(past_value.shape)),
            ),
        )
        step.present.append((present_key, present_value))
        step.keys.append(present_key)
        return out.reshape(batch, tokens, heads, head_dim)

    def lower(self, model: Any, gapless: bool) -> None:
        """Let the attention operator rotate query and key itself, where positions have no gaps.

        In the first prefill the operator reads the first position id only and counts on from it.
        """
        if gapless:
            fold_rotary_into_attention(model)
