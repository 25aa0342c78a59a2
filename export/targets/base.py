"""What a target decides: the operators for attention and the KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch


@dataclass
class CacheStep:
    """The KV cache while one language graph is traced.

    The cache of a layer is ``(batch, kv_heads, capacity, head_dim)`` for keys and for values. Rows
    ``0 .. write_index - 1`` are filled; the new tokens go to ``write_index ...``. For a target that
    appends it is ``(batch, past, kv_heads, head_dim)``, all of it filled.
    """

    past: list[tuple[torch.Tensor, torch.Tensor]]
    """Key and value cache of each layer of the stage."""
    write_index: torch.Tensor | None
    """First free row, ``(batch,)`` int64; None where rows are appended."""
    tokens: int | torch.SymInt
    """New tokens of this step."""
    first_layer: int = 0
    """Index in the model of the stage's first layer."""
    present: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """The updated caches, or the new rows of them, put in layer by layer."""
    keys: list[torch.Tensor] = field(default_factory=list)
    """Keys that the new tokens see, ``(batch, kv_heads, columns, head_dim)``, layer by layer."""
    shared: dict[str, torch.Tensor] = field(default_factory=dict)
    """What a target computes once for all layers: masks, lengths."""

    @property
    def start(self) -> torch.Tensor | int | torch.SymInt:
        """Column of the first new token, for all sequences or for each."""
        return self.past[0][0].shape[1] if self.write_index is None else self.write_index


class Target(Protocol):
    """One flavour of graph."""

    name: ClassVar[str]
    opset: ClassVar[int]
    dtypes: ClassVar[tuple[str, ...]]
    """Types of weights that its engines take."""
    zero_points: ClassVar[bool]
    """Whether they take quantized weights that are not symmetric."""
    appends: ClassVar[bool]
    """Whether a language graph gives out the new rows of its cache, rather than update it."""

    def vision_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention over all tokens, or over those that the boolean ``mask (tokens, tokens)`` lets
        a row see; ``(batch, heads, tokens, head_dim)`` in, ``(batch, tokens, heads, head_dim)``
        out."""
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
        """Causal attention of new tokens over the cache and themselves.

        ``query (batch, heads, tokens, head_dim)``, ``key`` and ``value (batch, kv_heads, tokens,
        head_dim)`` in, ``(batch, tokens, heads, head_dim)`` out; appends to ``step.present`` and
        ``step.keys``.
        """
        ...

    def lower(self, model: Any, gapless: bool) -> None:
        """Graph passes of this target alone, on an ``onnx_ir.Model``, in place.

        Args:
            model: the graph.
            gapless: whether position ids always count up without gaps.
        """
        ...
