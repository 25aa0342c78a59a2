"""A language graph: one stage of decoder layers, for prefill and decode alike."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from .families.base import LanguageParts
from .targets.base import CacheStep, Target


class _CachedAttention:
    """Attention context of a language stage (see ``attention.AttentionContext``)."""

    def __init__(self, target: Target, step: CacheStep) -> None:
        self._target = target
        self._step = step

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        layer = int(cast(int, module.layer_idx)) - self._step.first_layer
        return self._target.cached_attention(query, key, value, scale, layer, self._step)


class LanguageStage(nn.Module):
    """Layers ``first .. stop - 1``; the last stage ends with norm and head on the last position.

    ``inputs_embeds (batch, tokens, width)``, ``position_ids (batch, tokens)``, ``write_index
    (batch,)`` and the cache of every layer -> ``logits (batch, vocab)`` and the updated cache.

    Rotation angles come from two tables ``(positions, head_dim / 2)``, gathered by
    ``position_ids``; positions are explicit so that pruned prompts may number them as they like.
    """

    def __init__(
        self, parts: LanguageParts, first: int, stop: int, last: bool, target: Target
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(parts.layers[first:stop])
        self.norm = parts.norm if last else None
        self.head = parts.head if last else None
        self._first = first
        self._target = target
        for name, table in parts.rotary_tables().items():
            self.register_buffer(name, torch.empty(table.shape, dtype=torch.float32))

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        position_ids: torch.Tensor,
        write_index: torch.Tensor,
        past: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        step = CacheStep(
            past=past,
            write_index=write_index,
            tokens=inputs_embeds.shape[1],
            first_layer=self._first,
        )
        cos, sin = (
            torch.cat((half, half), dim=-1)
            for half in (
                nn.functional.embedding(position_ids, self.get_buffer("rotary_cos")),
                nn.functional.embedding(position_ids, self.get_buffer("rotary_sin")),
            )
        )
        context = _CachedAttention(self._target, step)
        hidden = inputs_embeds
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None, position_embeddings=(cos, sin), vtp=context)
        if self.norm is not None and self.head is not None:
            hidden = self.head(self.norm(hidden[:, -1]))
        return hidden, step.present
