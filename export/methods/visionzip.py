"""VisionZip: dominant tokens by [CLS] attention, and the rest merged into a few contextual ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ..ops.cosine import directions
from ..ops.places import places
from ..ops.shares import check_share, floor_share
from ..ops.size import int_of
from ..ops.topk_tokens import topk_tokens
from .base import AttentionScored, TowerView


@dataclass(frozen=True, kw_only=True)
class VisionZip(AttentionScored):
    """The [CLS] token itself, dominant tokens (attention summed over heads), contextual tokens.

    Needs a tower with a [CLS] token, or ``score=column-mean``; without a [CLS] token none is among
    the kept ones. ``keep`` counts all that the language model reads: ``int(contextual * keep)``
    contextual tokens, 1 for [CLS], and dominant ones for the rest, so 64 are 54 + 10, 128 are 108 +
    20 and 192 are 162 + 30, as published. The order is [CLS], dominant in raster order, contextual;
    numbers are compact, as in the published code. At a keep of 1 the [CLS] token is all there is
    (no patch at all), up to a keep of 6 nothing is merged, and a keep of all tokens drops nothing:
    then there is neither [CLS] nor merging.

    In ``kept`` [CLS] is -1 and a contextual token the patch of its target. "VisionZip: Longer is
    Better but Not Necessary in Vision Language Models", https://arxiv.org/abs/2412.04467.
    """

    name: ClassVar[str] = "visionzip"
    summary: ClassVar[str] = "[CLS], the tokens that it attends to, and a few merged tokens"
    in_order: ClassVar[bool] = False
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2412.04467"
    needs_cls: ClassVar[bool] = True

    contextual: float = 10 / 64
    """Share of the kept tokens that are merged from others."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.name, "contextual", self.contextual)

    def scores(self, tower: TowerView) -> torch.Tensor:
        return self.heads(tower).sum(dim=1)

    def select(self, tower: TowerView) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scores, keep, states = self.scores(tower), tower.keep, tower.states
        prunes = (keep < states.shape[1]).long()
        contextual = floor_share(keep, self.contextual) * prunes
        cls = prunes * int(tower.has_cls)
        dominant = (places(scores) < keep - cls - contextual).float()
        # A size of 0 is no size in a traced graph: with none wanted, one is made and not taken.
        made = torch.clamp(contextual, min=1)
        merged, targets = merge(states, tower.keys(), dominant, made)

        def every(flag: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
            return flag.float().expand(like.shape[0], like.shape[1])

        tables = [states, merged]
        patches = [torch.arange(states.shape[1]).expand(states.shape[0], -1), targets]
        takes = [dominant, every(contextual.clamp(max=1), targets)]
        if tower.has_cls:
            tables.insert(0, tower.cls_states())
            patches.insert(0, torch.full_like(targets[:, :1], -1))
            takes.insert(0, every(cls, targets[:, :1]))
        # Exactly ``keep`` rows are taken, and TopKTokens keeps them in this order.
        left, rows = topk_tokens(torch.cat(tables, dim=1), torch.cat(takes, dim=1), keep)
        kept = torch.gather(torch.cat(patches, dim=1), 1, rows)
        return tower.rows(left), kept, scores


def merge(
    features: torch.Tensor, keys: torch.Tensor, dominant: torch.Tensor, count: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Merge the tokens that are not dominant into a few.

    Of them, every ``step``-th is a target; each of the others joins the target whose key is nearest
    by cosine (of equals the first). A contextual token is its target plus the mean of those that
    joined it.

    Args:
        features: ``(images, tokens, width)``.
        keys: ``(images, tokens, head_dim)``.
        dominant: ``(images, tokens)`` float32, 1 for dominant tokens, as many in every image.
        count: ``(1,)`` int64: how many to make, 1 or more.

    Returns:
        ``(images, count, width)``, and the targets' indices ``(images, count)`` int64.
    """
    rest = 1 - dominant
    place = torch.cumsum(rest, dim=1) - 1
    left = rest[0].sum().long()
    step = torch.clamp(left // count, min=1)
    wanted = (torch.arange(int_of(count)) * step).float()
    # Row i is 1 at target i.
    at = (place[:, None, :] == wanted[:, None]).float() * rest[:, None, :]
    unit = directions(keys)
    cosine = torch.matmul(torch.matmul(at, unit), unit.transpose(1, 2))
    nearest = cosine.argmax(dim=1, keepdim=True)
    others = (rest - at.sum(dim=1))[:, None, :]
    joins = (nearest == torch.arange(at.shape[1])[None, :, None]).float() * others
    weights = at + joins / joins.sum(dim=2, keepdim=True).clamp(min=1)
    merged = torch.matmul(weights, features.float()).to(features.dtype)
    return merged, at.argmax(dim=2)
