"""DivPrune: tokens that are far from each other, whatever is on the picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..ops.cosine import cosines
from ..ops.loop import State, loop_down
from .base import TowerView, VisionMethod

_FARTHEST = 2.0
_FIRST = 3.0


@dataclass(frozen=True, kw_only=True)
class DivPrune(VisionMethod):
    """Greedy max-min cosine distance between projected tokens.

    Needs neither attention nor [CLS]. The first token picked is the one farthest from its nearest
    neighbour, each next one the token farthest from all picked ones, the lower index first on ties.
    The published code may pick a token twice once only copies of picked ones are left; this does
    not. Kept tokens stay in raster order and are numbered anew from zero, as in the published code.
    "DivPrune: Diversity-based Visual Token Pruning for Large Multimodal Models",
    https://arxiv.org/abs/2503.02175.

    A token's score is the distance at which it was picked (2, the largest possible, for the first),
    or the distance to the picked ones that is left to it. At a keep of all tokens nothing is
    picked.
    """

    name: ClassVar[str] = "divprune"
    summary: ClassVar[str] = "tokens that are far from each other (max-min cosine distance)"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2503.02175"
    on_projected: ClassVar[bool] = True

    def scores(self, tower: TowerView) -> torch.Tensor:
        return max_min(tower.project(tower.features), tower.keep)


def max_min(tokens: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Distances at which ``keep`` tokens are picked; the ``keep`` highest are those of the picked.

    Distances fall from pick to pick, and what is left to a token is never above the last of them.

    Args:
        tokens: ``(images, n, width)``.
        keep: ``(1,)`` int64.

    Returns:
        ``(images, n)`` float32.
    """
    count = tokens.shape[1]
    distance = 1 - cosines(tokens)
    diagonal = torch.arange(count)[:, None] == torch.arange(count)[None, :]
    alone = torch.where(diagonal, torch.full((), 4.0), distance).amin(dim=2)
    first = torch.arange(count)[None, :] == alone.argmax(dim=1, keepdim=True)
    left = torch.where(first, torch.full((), _FIRST), torch.full((), _FARTHEST))
    # All are kept without picking.
    picks = torch.where(keep < count, keep, torch.zeros_like(keep))
    scores, _ = loop_down(picks, _pick, (left, torch.zeros_like(left)), (distance,))
    return scores


def _pick(
    picks: torch.Tensor, left: torch.Tensor, picked: torch.Tensor, distance: torch.Tensor
) -> State:
    free = torch.where(picked > 0, torch.full((), -1.0), left)
    chosen = free.argmax(dim=1, keepdim=True)
    is_chosen = torch.arange(left.shape[1])[None, :] == chosen
    picked = torch.where(is_chosen, torch.ones(()), picked)
    index = chosen[:, :, None].expand(-1, -1, distance.shape[2])
    away = torch.gather(distance, 1, index)[:, 0].clamp(0.0, _FARTHEST)
    left = torch.where(picked > 0, left, torch.minimum(left, away))
    return picks - 1, left, picked
