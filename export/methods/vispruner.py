"""VisPruner: tokens that [CLS] attends to, and of the rest those that are not alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..ops.cosine import cosines
from ..ops.loop import State, loop_down
from ..ops.places import places
from ..ops.ranking import ranked
from ..ops.shares import check_share, floor_share
from ..ops.topk_tokens import topk_tokens
from .base import AttentionScored, TowerView

_REMOVAL = 8
"""Tokens that one step removes."""


@dataclass(frozen=True, kw_only=True)
class VisPruner(AttentionScored):
    """The most important tokens by [CLS] attention, the others thinned out by similarity.

    Needs a tower with a [CLS] token, or ``score=column-mean``. ``int(important * keep)`` tokens are
    kept for their attention (mean over heads). The rest stand in line by falling attention, and
    until the line is short enough, up to 8 at a time are removed: of those at even places, the ones
    whose features (before the projector) are nearest by cosine to one at an odd place. The line
    then is the remaining ones of the even places, the nearest first, and behind them those of the
    odd places.

    The published code stops with an error where a line is of odd length (such as 58 of 576 tokens);
    here the last one then joins the odd places. Of equals the one earlier in line comes first. Kept
    tokens stay in raster order and are numbered anew from zero, as in the published code. "Beyond
    Text-Visual Attention: Exploiting Visual Cues for Effective Token Pruning in VLMs", the later
    version of https://arxiv.org/abs/2412.01818.

    Which tokens of the line stay hangs on the last bits of similarities: two tokens that swap
    places change what every later step compares, so engines may differ there. A token's score is
    therefore its attention, but not below that of the last important one: below, all are equal.
    """

    name: ClassVar[str] = "vispruner"
    summary: ClassVar[str] = "half by [CLS] attention, half without near-duplicates"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2412.01818"
    needs_cls: ClassVar[bool] = True

    important: float = 0.5
    """Share of the kept tokens that are kept for their attention."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.name, "important", self.important)

    def scores(self, tower: TowerView) -> torch.Tensor:
        return self.heads(tower).mean(dim=1)

    def select(self, tower: TowerView) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores = self.scores(tower)
        important = floor_share(tower.keep, self.important)
        place = thin_out(scores, cosines(tower.features), important, tower.keep - important)
        states, kept = topk_tokens(tower.states, -place.float(), tower.keep)
        last = torch.clamp(important - 1, min=0).expand(scores.shape[0], 1)
        cut = torch.gather(ranked(scores, descending=True)[0], 1, last)
        return tower.rows(states), kept, torch.maximum(scores, cut)


def thin_out(
    scores: torch.Tensor, similar: torch.Tensor, important: torch.Tensor, diverse: torch.Tensor
) -> torch.Tensor:
    """Place of every token: the important ones, then the line that is left, then the removed ones.

    Args:
        scores: ``(images, tokens)`` float32.
        similar: ``(images, tokens, tokens)``, cosines.
        important: ``(1,)`` int64: tokens that do not stand in line.
        diverse: ``(1,)`` int64: where the line is short enough; 1 or more.

    Returns:
        ``(images, tokens)`` int64, every place once.
    """
    count = scores.shape[1]
    every = torch.arange(count)
    order = ranked(scores, descending=True)[1]
    line = torch.gather(order, 1, _turned(every, important, count).expand_as(order))
    surplus = count - important - diverse
    (line,) = loop_down(surplus, _remove, (line,), (diverse, similar))
    # What stands in line comes first, the important ones wherever they are now even before that.
    in_line = _inverse(line)
    return torch.where(places(scores) < important, in_line - count, in_line)


def _inverse(line: torch.Tensor) -> torch.Tensor:
    """Place of every token in line; ``(images, tokens)``."""
    return ranked(line.float(), descending=False)[1]


def _turned(every: torch.Tensor, by: torch.Tensor, count: int) -> torch.Tensor:
    """0, 1, 2, ... with the first ``by`` of them put at the end, ``(1, count)``."""
    places = every + by
    return torch.where(places < count, places, places - count)[None, :]


def _remove(
    surplus: torch.Tensor, line: torch.Tensor, diverse: torch.Tensor, similar: torch.Tensor
) -> State:
    """One step; ``line (images, tokens)`` has the tokens in line first, in any order the others."""
    count, length = line.shape[1], surplus + diverse
    every = torch.arange(count)
    evens = length // 2
    removed = torch.minimum(surplus, evens).clamp(max=_REMOVAL)
    is_even = (torch.remainder(every, 2) == 0) & (every < 2 * evens)
    is_odd = (every < length) & ~is_even
    odd = torch.gather(is_odd[None, :].expand_as(line), 1, _inverse(line))
    # To the nearest token at an odd place; for tokens at even places only.
    nearest = torch.where(odd[:, None, :], similar, torch.full((), -4.0)).amax(dim=2)
    nearest = torch.where(is_even[None, :], torch.gather(nearest, 1, line), torch.full((), -4.0))
    # The even places by falling similarity; all others are equal, so they follow as they stood.
    sorted_ = ranked(nearest, descending=True)[1]
    turned = torch.gather(sorted_, 1, _turned(every, removed, count).expand_as(line))
    return surplus - removed, torch.gather(line, 1, turned)
