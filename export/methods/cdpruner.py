"""CDPruner: tokens that differ from each other and have to do with the prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ...errors import ParameterInvalid
from ..ops.cosine import cosines, directions
from ..ops.loop import State, loop_down
from .base import TowerView, VisionMethod

_SPENT = 1e-4
"""Below this share of the largest possible a token adds nothing: in float32 the rest is
rounding."""


@dataclass(frozen=True, kw_only=True)
class CdPruner(VisionMethod):
    """Greedy MAP of a determinantal point process, conditioned on the prompt.

    Needs neither attention nor [CLS]. The kernel is ``r_i cos_ij r_j`` on projected tokens in
    float32, ``r`` a token's relevance. The published relevance comes from CLIP's text tower, which
    LLaVA checkpoints lack; here it is the mean cosine between the projected token and the language
    model's own embeddings of the prompt's text tokens, template included, as in OpenVINO GenAI. It
    is scaled to 0..1 within each image (the published code: over all tiles together).

    The published code fails where more tokens are asked for than the kernel has independent ones;
    here such tokens follow by relevance. Kept tokens stay in raster order and are numbered anew
    from zero, as in the published code. "Beyond Attention or Similarity: Maximizing Conditional
    Diversity for Token Pruning in MLLMs", https://arxiv.org/abs/2506.10967.

    A token's score is what it added when it was picked (its share of the squared volume), or what
    it would still add. At a keep of all tokens nothing is picked.
    """

    name: ClassVar[str] = "cdpruner"
    summary: ClassVar[str] = "tokens that differ from each other and fit the prompt"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2506.10967"
    on_projected: ClassVar[bool] = True
    reads_prompt: ClassVar[bool] = True

    relevance_weight: float = 0.5
    """Relevance enters the kernel as ``r ** (2 * relevance_weight)``: 0.5 is the published kernel,
    0 looks at diversity alone."""
    negated: bool = False
    """Whether relevance is the negative of the cosine, as published for CLIP's text tower."""

    def __post_init__(self) -> None:
        if not 0 <= self.relevance_weight <= 1:
            raise ParameterInvalid(
                self.name, "relevance_weight", self.relevance_weight, "a number from 0 to 1"
            )

    def scores(self, tower: TowerView) -> torch.Tensor:
        tokens = tower.project(tower.features)
        cosine = torch.matmul(directions(tokens), directions(tower.prompt_embeds()).T)
        mean = cosine.mean(dim=2) * (-1.0 if self.negated else 1.0)
        least, most = mean.amin(dim=1, keepdim=True), mean.amax(dim=1, keepdim=True)
        relevance = (mean - least + 1e-6) / (most - least).clamp(min=1e-6)
        relevance = relevance.clamp(max=1) ** (2 * self.relevance_weight)
        return greedy_map(cosines(tokens), relevance, tower.keep)


def greedy_map(similar: torch.Tensor, relevance: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    """Gains with which ``keep`` tokens are picked; the ``keep`` highest are those of the picked.

    Gains fall from pick to pick, and what is left to a token is never above the last of them.

    Args:
        similar: ``(images, n, n)`` float32.
        relevance: ``(images, n)`` float32 in 0..1.
        keep: ``(1,)`` int64.

    Returns:
        ``(images, n)`` float32.
    """
    count = similar.shape[1]
    kernel = relevance[:, :, None] * similar * relevance[:, None, :]
    gains = relevance * relevance
    # All are kept without picking.
    picks = torch.where(keep < count, keep, torch.zeros_like(keep))
    state = (gains, torch.zeros_like(gains), kernel)
    gains, _, _ = loop_down(picks, _pick, state, (relevance,))
    return _with_spent(gains, relevance)


def _with_spent(gains: torch.Tensor, relevance: torch.Tensor) -> torch.Tensor:
    return torch.where(gains > _SPENT, gains, _SPENT * relevance)


def _pick(
    picks: torch.Tensor,
    gains: torch.Tensor,
    picked: torch.Tensor,
    kernel: torch.Tensor,
    relevance: torch.Tensor,
) -> State:
    """One pick; ``kernel`` is conditioned on all picks before (its Schur complement)."""
    free = torch.where(picked > 0, torch.full((), -1.0), _with_spent(gains, relevance))
    chosen = free.argmax(dim=1, keepdim=True)
    is_chosen = torch.arange(gains.shape[1])[None, :] == chosen
    picked = torch.where(is_chosen, torch.ones(()), picked)
    pivot = torch.gather(gains, 1, chosen)
    row = torch.gather(kernel, 1, chosen[:, :, None].expand(-1, -1, kernel.shape[2]))[:, 0]
    part = torch.where(pivot > _SPENT, row / pivot.clamp(min=_SPENT).sqrt(), torch.zeros(()))
    kernel = kernel - part[:, :, None] * part[:, None, :]
    left = (gains - part * part).clamp(min=0)
    return picks - 1, torch.where(picked > 0, gains, left), picked, kernel
