"""The graph between two language stages: score -> TopKTokens -> what is left of the sequence."""

from __future__ import annotations

import torch

from ...runtime.bundle.plan import Drop
from ..ops.ranking import ranked
from ..ops.topk_tokens import topk_tokens
from ..parts.language import LanguageParts
from ..scores import score_class
from ..scores.base import Arriving
from .base import GraphModule
from .recycle import recycle


class DropGraph(GraphModule):
    """``contract.DROP_KIND``: what is left of the sequence before a stage.

    Runs in prefill only. Text rows all stay; of each group of image rows ``keep`` stay. What is
    left is in its old order, tokens merged from dropped ones (``Drop.recycle``) after the last
    image row.

    """

    def __init__(self, parts: LanguageParts, drop: Drop) -> None:
        super().__init__()
        self.score = score_class(drop.score)(parts, drop.layer)
        self._width = parts.config.hidden_size
        self._carries = parts.row_width(drop.layer) > self._width
        self._recycle = drop.recycle

    def forward(
        self,
        hidden_states: torch.Tensor,
        image_rows: torch.Tensor,
        text_rows: torch.Tensor,
        keep: torch.Tensor,
        recycled: torch.Tensor | None = None,
        merged: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        write_index: torch.Tensor | None = None,
        key_cache: torch.Tensor | None = None,
        query: torch.Tensor | None = None,
        queries: torch.Tensor | None = None,
        rater_rows: torch.Tensor | None = None,
        rater_weights: torch.Tensor | None = None,
        given_scores: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        # In models with planes, those still to come follow the hidden state.
        own = hidden_states[..., : self._width] if self._carries else hidden_states
        arriving = Arriving(
            hidden_states=own,
            image_rows=image_rows,
            text_rows=text_rows,
            position_ids=position_ids,
            write_index=write_index,
            key_cache=key_cache,
            query=query,
            queries=queries,
            rater_rows=rater_rows,
            rater_weights=rater_weights,
            given_scores=given_scores,
        )
        scores = self.score(arriving)
        _, kept = topk_tokens(scores[..., None], scores, keep)
        rows = torch.gather(image_rows, 1, kept).reshape(-1)
        # As float32: TensorRT sorts no int64, and rows are far below 2**24.
        places = torch.cat((text_rows, rows)).float()
        left = hidden_states[:, torch.cat((text_rows, rows))]
        if self._recycle is not None and recycled is not None and merged is not None:
            new = recycle(hidden_states, own, image_rows, scores, keep, recycled, merged)
            left = torch.cat((left, new), dim=1)
            behind = image_rows.max().float() + 0.5
            places = torch.cat((places, behind.expand(new.shape[1])))
        _, order = ranked(places, descending=False)
        return left[:, order], kept, scores
