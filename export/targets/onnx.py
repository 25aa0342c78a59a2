"""Target ``onnx``: standard operators of opset 24, for TensorRT 10.15 and later, 11 and RTX.

The cache is written by ``TensorScatter`` and read by ``Attention`` under an explicit boolean mask.
``is_causal`` is never used: with a cache TensorRT counts "causal" from the upper left corner and
ONNX Runtime from the lower right.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..ops.attention import TRACE_OPSET, symbolic
from .base import CacheStep


class OnnxTarget:
    """Graphs of standard ONNX only, but for ``vtp::TopKTokens`` with its function body."""

    name: ClassVar[str] = "onnx"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    zero_points: ClassVar[bool] = False
    opset: ClassVar[int] = 24
    appends: ClassVar[bool] = False

    def vision_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Standard ``Attention``."""
        inputs = (query, key, value) if mask is None else (query, key, value, mask)
        (out,) = symbolic(
            "::Attention",
            inputs,
            {"scale": scale},
            ((query.dtype, tuple(query.shape)),),
            version=TRACE_OPSET,
        )
        return out.transpose(1, 2)

    def cached_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        layer: int,
        step: CacheStep,
    ) -> torch.Tensor:
        """``TensorScatter`` into the cache, ``Attention`` over all of it under a mask."""
        past_key, past_value = step.past[layer]
        assert step.write_index is not None
        if not step.shared:
            # Row i of this step stands at write_index + i and sees the columns up to there.
            rows = step.write_index[:, None] + torch.arange(step.tokens)
            columns = torch.arange(past_key.shape[2])
            step.shared["mask"] = columns[None, None, None, :] <= rows[:, None, :, None]
        present = tuple(
            symbolic(
                "::TensorScatter",
                (cache, update, step.write_index),
                {"axis": 2, "mode": "linear"},
                ((cache.dtype, tuple(cache.shape)),),
                version=TRACE_OPSET,
            )[0]
            for cache, update in ((past_key, key), (past_value, value))
        )
        (out,) = symbolic(
            "::Attention",
            (query, present[0], present[1], step.shared["mask"]),
            {"scale": scale},
            ((query.dtype, tuple(query.shape)),),
            version=TRACE_OPSET,
        )
        step.present.append((present[0], present[1]))
        step.keys.append(present[0])
        return out.transpose(1, 2)

    def lower(self, model: Any, gapless: bool) -> None:
        """Nothing more: the traced graph is standard already."""
