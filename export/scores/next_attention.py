"""Attention of the last token in the layer after the drop, computed before it runs
(PyramidDrop)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ...runtime.bundle.contract import POSITION_IDS
from ..parts.language import LanguageParts
from .base import Arriving, DropScore, attention_rows


class _Noted:
    """Attention context that notes query and key (see ``attention.AttentionContext``)."""

    query: torch.Tensor
    key: torch.Tensor
    scale: float

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        self.query, self.key, self.scale = query, key, scale
        return query.transpose(1, 2)


class NextLayerAttention(DropScore):
    """The next layer's norm, query of the last row and keys of all rows; softmax over the rows of
    this prefill, mean over heads.

    The layer's attention module is run for its query and key; what else it computes is read by
    nobody and so not part of the graph.
    """

    name: ClassVar[str] = "next-attention"
    summary: ClassVar[str] = "attention of the last token in the layer after, mean over heads"
    inputs: ClassVar[tuple[str, ...]] = (POSITION_IDS,)
    rotates: ClassVar[bool] = True
    from_layer: ClassVar[int | None] = 0

    def __init__(self, parts: LanguageParts, layer: int) -> None:
        super().__init__(parts, layer)
        self.norm: nn.Module = parts.layer(layer).input_layernorm
        self.attention: nn.Module = parts.layer(layer).self_attn
        self.rotary = parts.rotary_lookup()
        self._dtype = parts.dtype

    def forward(self, arriving: Arriving) -> torch.Tensor:
        normed = self.norm(arriving.hidden_states.to(self._dtype))
        of_all, of_last = _Noted(), _Noted()
        positions = arriving.position_ids
        assert positions is not None
        for noted, rows, places in (
            (of_all, normed, positions),
            # Picked, not sliced: TensorRT cannot see that a slice of unknown length has one row.
            (of_last, normed[:, -1, None], positions[..., -1, None]),
        ):
            self.attention(
                rows, position_embeddings=self.rotary(places), attention_mask=None, vtp=noted
            )
        row = attention_rows(of_last.query, of_all.key, of_all.scale, None)
        return row.mean(dim=0)[0][arriving.image_rows]
