"""Attention of the last token, in the layer before the drop (FastV)."""

from __future__ import annotations

from typing import ClassVar

import torch

from ...runtime.bundle.contract import KEY_CACHE, QUERY, WRITE_INDEX
from ..parts.language import LanguageParts
from .base import Arriving, DropScore, attention_rows


class LastRowAttention(DropScore):
    """Softmax over the whole sequence of the last token's attention, mean over heads.

    One row: the query of the last token against the keys in the layer's cache.
    """

    name: ClassVar[str] = "attention"
    summary: ClassVar[str] = "attention of the last token in the layer before, mean over heads"
    inputs: ClassVar[tuple[str, ...]] = (QUERY, KEY_CACHE, WRITE_INDEX)

    def __init__(self, parts: LanguageParts, layer: int) -> None:
        super().__init__(parts, layer)
        self._scale = float(parts.layer(layer - 1).self_attn.scaling)

    def forward(self, arriving: Arriving) -> torch.Tensor:
        assert arriving.query is not None
        assert arriving.key_cache is not None
        assert arriving.write_index is not None
        filled = arriving.write_index + arriving.hidden_states.shape[1]
        mask = torch.arange(arriving.key_cache.shape[2]) < filled
        row = attention_rows(arriving.query, arriving.key_cache, self._scale, mask)
        return row.mean(dim=0)[0][arriving.image_rows + arriving.write_index]
