"""Attention of chosen text tokens, the raters, in the layer before the drop (SparseVLM)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from ...runtime.bundle.contract import (
    KEY_CACHE,
    POSITION_IDS,
    QUERIES,
    RATER_ROWS,
    RATER_WEIGHTS,
    RATERS_KIND,
    WRITE_INDEX,
    GraphKind,
)
from ..parts.language import LanguageParts
from .base import Arriving, DropScore, attention_rows

HEADS_KEPT = 14 / 32
"""Share of the heads that SparseVLM v2 reads: 14 of the 32 of the models it was made for."""


class RaterChoice(nn.Module):
    """``contract.RATERS_KIND``: 1 for text tokens that rate (SparseVLM, arXiv 2410.04417).

    A text token rates if the image tokens, by a softmax over the text tokens of their dot products,
    attend to it more than to the mean text token. Where none does, all rate.

    Args:
        width: of an embedding; in models with planes a row holds more.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(
        self, inputs_embeds: torch.Tensor, image_rows: torch.Tensor, rater_rows: torch.Tensor
    ) -> torch.Tensor:
        embeds = inputs_embeds[0]
        if embeds.shape[1] > self._width:
            embeds = embeds[:, : self._width]
        image, text = embeds[image_rows], embeds[rater_rows]
        attended = torch.softmax(torch.matmul(image, text.T).float(), dim=-1).mean(dim=0)
        rates = (attended > attended.mean()).float()
        return torch.where(rates.sum() > 0, rates, torch.ones_like(rates))


class RatersAttention(DropScore):
    """Softmax over the whole sequence of the raters' attention, mean over raters and heads."""

    name: ClassVar[str] = "raters"
    summary: ClassVar[str] = "attention of chosen text tokens in the layer before, mean over heads"
    inputs: ClassVar[tuple[str, ...]] = (
        QUERIES,
        KEY_CACHE,
        WRITE_INDEX,
        RATER_ROWS,
        RATER_WEIGHTS,
    )
    before: ClassVar[GraphKind | None] = RATERS_KIND

    @classmethod
    def make_before(cls, parts: LanguageParts) -> nn.Module:
        return RaterChoice(parts.config.hidden_size)

    def __init__(self, parts: LanguageParts, layer: int) -> None:
        super().__init__(parts, layer)
        self._scale = float(parts.layer(layer - 1).self_attn.scaling)

    def forward(self, arriving: Arriving) -> torch.Tensor:
        per_head = self.rated(arriving)
        return per_head.mean(dim=0)[arriving.image_rows]

    def rated(self, arriving: Arriving) -> torch.Tensor:
        """``(heads, columns of this prefill)``: mean over the raters."""
        assert arriving.queries is not None
        assert arriving.key_cache is not None
        assert arriving.write_index is not None
        assert arriving.rater_rows is not None
        assert arriving.rater_weights is not None
        rows, before = arriving.rater_rows, arriving.write_index
        columns = torch.arange(arriving.key_cache.shape[2])
        mask = columns[None, :] <= rows[:, None] + before
        query = arriving.queries[:, :, rows]
        attention = attention_rows(query, arriving.key_cache, self._scale, mask)
        attention = attention[:, :, torch.arange(arriving.hidden_states.shape[1]) + before]
        attention = self.adjusted(attention, arriving)
        weights = arriving.rater_weights / arriving.rater_weights.sum()
        return (attention * weights[None, :, None]).sum(dim=1)

    def adjusted(self, attention: torch.Tensor, arriving: Arriving) -> torch.Tensor:
        """``attention (heads, raters, tokens)``; a place for variants."""
        return attention


class DegravitatedRaters(RatersAttention):
    """As SparseVLM v2: attention is divided by what rotary positions alone would give, and only the
    heads that rate image tokens highest count.

    The divisor for positions p and q is ``sum_t 2 cos((p - q) theta_t)``: the product of two
    rotated vectors of ones. (It falls with distance and is negative from about 1,700 on at theta
    10,000, in the published code as here.) Heads: the highest ``round(14 / 32 * heads)``.
    """

    name: ClassVar[str] = "raters-degravitated"
    summary: ClassVar[str] = (
        "like raters, without the bias of rotary positions, over the best heads"
    )
    inputs: ClassVar[tuple[str, ...]] = (*RatersAttention.inputs, POSITION_IDS)

    def __init__(self, parts: LanguageParts, layer: int) -> None:
        super().__init__(parts, layer)
        self.rotary = parts.rotary_lookup()
        self._kept_heads = max(1, round(HEADS_KEPT * parts.config.num_attention_heads))

    def adjusted(self, attention: torch.Tensor, arriving: Arriving) -> torch.Tensor:
        assert arriving.position_ids is not None
        assert arriving.rater_rows is not None
        cos, sin = (table[0] for table in self.rotary(arriving.position_ids))
        rows = arriving.rater_rows
        pull = torch.matmul(cos[rows], cos.T) + torch.matmul(sin[rows], sin.T)
        return attention / pull

    def forward(self, arriving: Arriving) -> torch.Tensor:
        per_head = self.rated(arriving)[:, arriving.image_rows]
        highest = torch.topk(per_head.sum(dim=(1, 2)), self._kept_heads).indices
        return per_head[highest].mean(dim=0)
