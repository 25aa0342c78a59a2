"""FasterVLM: keep the image tokens that the vision encoder's [CLS] token attends to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from .base import AttentionScored, TowerView


@dataclass(frozen=True, kw_only=True)
class FasterVlm(AttentionScored):
    """[CLS] attention of the layer whose output the projector reads, mean over heads.

    Needs a tower with a [CLS] token, or ``score=column-mean``. Kept tokens stay in raster order and
    are numbered anew from zero, as in the published code. "[CLS] Attention is All You Need for
    Training-Free Visual Token Pruning", https://arxiv.org/abs/2412.01818.
    """

    name: ClassVar[str] = "fastervlm"
    summary: ClassVar[str] = "[CLS] attention of the vision encoder, mean over heads"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2412.01818"
    needs_cls: ClassVar[bool] = True

    def scores(self, tower: TowerView) -> torch.Tensor:
        return self.heads(tower).mean(dim=1)
