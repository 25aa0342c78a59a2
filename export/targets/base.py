"""What a target decides: the operators for attention and the KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch


@dataclass
class CacheStep:
    """The KV cache while one language graph is traced.

    The cache of a layer is ``(batch, kv_heads, capacity, head_dim)`` for keys and for values. Rows
    ``0 .. write_index - 1`` are filled; the new tokens go to ``write_index ...``.
    """

    past: list[tuple[torch.Tensor, torch.Tensor]]
    """Key and value cache of each layer of the stage."""
    write_index: torch.Tensor
    """First free row, ``(batch,)`` int64."""
    tokens: int | torch.SymInt
    """New tokens of this step."""
    first_layer: int = 0
    """Index in the model of the stage's first layer."""
    present: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """The updated caches, appended layer by layer."""
    shared: dict[str, torch.Tensor] = field(default_factory=dict)
    """What a target computes once for all layers: masks, lengths."""


class Target(Protocol):
    """One flavour of graph."""

    name: ClassVar[str]
    opset: ClassVar[int]

    def vision_attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attention over all tokens; ``(batch, heads, tokens, head_dim)`` in, ``(batch, tokens,
        heads, head_dim)`` out."""
        ...

    def cached_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        layer: int,
        step: CacheStep,
    ) -> torch.Tensor:
        """Causal attention of new tokens over the cache, which it updates in place.

        ``query (batch, heads, tokens, head_dim)``, ``key`` and ``value (batch, kv_heads, tokens,
        head_dim)`` in, ``(batch, tokens, heads, head_dim)`` out; appends to ``step.present``.
        """
        ...

    def lower(self, model: Any, gapless: bool) -> None:
        """Graph passes of this target alone, on an ``onnx_ir.Model``, in place.

        Args:
            model: the graph.
            gapless: whether position ids always count up without gaps.
        """
        ...
