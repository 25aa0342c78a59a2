"""A language graph: one stage of decoder layers, for prefill and decode alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from ...runtime.bundle.contract import QUERIES, is_cache
from ..ops.cached_attention import cached_attention
from ..parts.language import LanguageParts
from ..scores.base import attention_rows
from .base import GraphModule

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer of a stage, ``(batch, kv_heads, capacity, head_dim)``."""


class _CachedAttention:
    """Attention context of a language stage (see ``ops.attention.AttentionContext``)."""

    def __init__(self, past: Cache, write_index: torch.Tensor, first_layer: int) -> None:
        self._past, self._write_index, self._first = past, write_index, first_layer
        self.present: Cache = []
        """The updated cache, layer by layer."""
        self.query: torch.Tensor
        """Query of the layer that ran last, ``(batch, heads, tokens, head_dim)``."""

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        past = self._past[int(cast(int, module.layer_idx)) - self._first]
        out, keys, values = cached_attention(query, key, value, past, self._write_index, scale)
        self.query = query
        self.present.append((keys, values))
        return out


class _GuidingAttention(_CachedAttention):
    """Sums up, over layers, heads and the given rows, what every column of the cache receives."""

    def __init__(
        self, past: Cache, write_index: torch.Tensor, first_layer: int, rows: torch.Tensor
    ) -> None:
        super().__init__(past, write_index, first_layer)
        self._rows = rows
        self.received: torch.Tensor | None = None

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        out = super().attend(module, query, key, value, scale)
        keys = self.present[-1][0]
        columns = torch.arange(keys.shape[2])
        mask = columns[None, :] <= self._rows[:, None] + self._write_index
        attention = attention_rows(query[:, :, self._rows], keys, scale, mask)
        received = attention.sum(dim=(0, 1))
        self.received = received if self.received is None else self.received + received
        return out


class LanguageStage(GraphModule):
    """``contract.LANGUAGE_KIND``: layers ``first .. stop - 1``; the last stage ends with norm and
    head on the last position.

    Args:
        parts: the decoder.
        first: its first layer.
        stop: the layer behind its last one.
        emits: what the drop after this stage reads of its last layer: ``QUERY`` of the last row,
            ``QUERIES`` of all rows, or None.
    """

    def __init__(
        self, parts: LanguageParts, first: int, stop: int, emits: str | None = None
    ) -> None:
        super().__init__()
        last = stop == len(parts.layers)
        self.layers = nn.ModuleList(parts.layers[first:stop])
        self.norm = parts.norm if last else None
        self.head = parts.head if last else None
        self.rotary = parts.rotary_lookup()
        self._dtype = parts.dtype
        self._first = first
        self._planes = [layer for layer in parts.planes if layer >= first]
        self._emits = emits

    def arguments(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The hidden states as ``hidden``, the caches as ``past``."""
        first, *others = (name for name in inputs if not is_cache(name))
        caches = iter(value for name, value in inputs.items() if is_cache(name))
        rest = {name: inputs[name] for name in others}
        return {"hidden": inputs[first], **rest, "past": list(zip(caches, caches, strict=True))}

    def forward(
        self,
        hidden: torch.Tensor,
        position_ids: torch.Tensor,
        write_index: torch.Tensor,
        past: Cache,
    ) -> tuple[object, ...]:
        context = _CachedAttention(past, write_index, self._first)
        hidden, *planes = self._run(hidden, position_ids, context)
        if self.norm is not None and self.head is not None:
            hidden = self.head(self.norm(hidden[:, -1]))
        elif planes:
            hidden = torch.cat((hidden, *planes), dim=-1)
        if self._emits is None:
            return hidden.float(), context.present
        query = context.query if self._emits == QUERIES else context.query[:, :, -1:]
        return hidden.float(), query.float(), context.present

    def _run(
        self, rows: torch.Tensor, position_ids: torch.Tensor, context: _CachedAttention
    ) -> list[torch.Tensor]:
        """Hidden states behind the layers, and the planes that are still to be added."""
        # Between graphs all is float32 but the cache.
        rows = rows.to(self._dtype)
        count = 1 + len(self._planes)
        hidden, *planes = rows.chunk(count, dim=-1) if count > 1 else (rows,)
        angles = self.rotary(position_ids)
        for number, layer in enumerate(self.layers, start=self._first):
            hidden = layer(hidden, attention_mask=None, position_embeddings=angles, vtp=context)
            if number in self._planes:
                hidden = hidden + planes.pop(0)
        return [hidden, *planes]


class GuideStage(LanguageStage):
    """``contract.GUIDE_KIND``: a whole decoder that tells what its text attended to, for a larger
    model (SGL).

    Of one sequence: ``score_rows`` are the rows of this step whose attention counts,
    ``image_columns`` the places of the image tokens in the cache; ``received`` is the sum over
    layers, heads and those rows.
    """

    def forward(  # type: ignore[override]
        self,
        hidden: torch.Tensor,
        position_ids: torch.Tensor,
        write_index: torch.Tensor,
        score_rows: torch.Tensor,
        image_columns: torch.Tensor,
        logit_rows: torch.Tensor,
        past: Cache,
    ) -> tuple[object, ...]:
        context = _GuidingAttention(past, write_index, self._first, score_rows)
        hidden = self._run(hidden, position_ids, context)[0]
        assert self.norm is not None
        assert self.head is not None
        assert context.received is not None
        logits = self.head(self.norm(hidden[0, logit_rows])).float()
        return logits, context.received[image_columns], context.present
