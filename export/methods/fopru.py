"""FoPru: attention in the vision encoder, token by token or by whole rows of the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..ops.places import places
from ..ops.topk_tokens import topk_tokens
from .base import AttentionScored, TowerView, check_choice

RANK, ROW = "rank", "row"


@dataclass(frozen=True, kw_only=True)
class FoPru(AttentionScored):
    """Attention of the layer whose output the projector reads, mean over heads.

    Needs a tower with a [CLS] token, or ``score=column-mean``. "FoPru: Focal Pruning for Efficient
    Large Vision-Language Models", https://arxiv.org/abs/2411.14164. No code was published; this is
    our reading: a token's significance is the attention it receives (from [CLS], or from all image
    tokens), and kept tokens go back to raster order and are numbered anew from zero. With
    ``strategy=rank`` this is FasterVLM's choice.
    """

    name: ClassVar[str] = "fopru"
    summary: ClassVar[str] = "attention in the vision encoder, by token or by row of patches"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2411.14164"
    needs_cls: ClassVar[bool] = True

    strategy: str = RANK
    """``rank``: the best tokens of the whole picture. ``row``: the rows of patches with the highest
    sums; what is left of ``keep`` then goes to the best tokens of the next best row."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self.name, "strategy", self.strategy, (RANK, ROW))

    @property
    def needs_grid(self) -> bool:
        return self.strategy == ROW

    def scores(self, tower: TowerView) -> torch.Tensor:
        return self.heads(tower).mean(dim=1)

    def select(self, tower: TowerView) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.strategy == RANK:
            return super().select(tower)
        scores = self.scores(tower)
        order = -row_places(scores, tower.grid).float()
        states, kept = topk_tokens(tower.states, order, tower.keep)
        return tower.rows(states), kept, scores


def row_places(scores: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Place of each token when the rows are sorted by their sums and, within them, their tokens.

    Args:
        scores: ``(images, tokens)`` float32.
        grid: rows and columns of patches.

    Returns:
        ``(images, tokens)`` int64, 0 for the first.
    """
    rows, columns = grid
    by_row = scores.reshape(-1, rows, columns)
    of_row = places(by_row.sum(dim=2))
    return (of_row[..., None] * columns + places(by_row)).reshape(-1, rows * columns)
