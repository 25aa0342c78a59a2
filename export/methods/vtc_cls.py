"""VTC-CLS: [CLS] attention, summed over the last layers of the vision encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from ...errors import ParameterInvalid
from .base import AttentionScored, TowerView


@dataclass(frozen=True, kw_only=True)
class VtcCls(AttentionScored):
    """[CLS] attention, mean over heads, summed over the last layers up to the feature layer.

    Needs a tower with a [CLS] token, or ``score=column-mean``. Kept tokens stay in raster order and
    are renumbered from zero, as in the published code. "[CLS] Token Tells Everything Needed for
    Training-free Efficient MLLMs", https://arxiv.org/abs/2412.05819. The paper is reported to
    recommend 3 layers; the published code starts at layer 16 of CLIP-L by default (7 layers). Both
    are presets.
    """

    name: ClassVar[str] = "vtc-cls"
    summary: ClassVar[str] = "[CLS] attention, summed over the last layers of the vision encoder"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2412.05819"
    needs_cls: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "paper": {"layers": 3},
        "repo": {"layers": 7},
    }

    layers: int = 3
    """Number of layers that are summed; the last one is the feature layer."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1:
            raise ParameterInvalid(self.name, "layers", self.layers, "a count of at least 1")

    def score_layer(self, depth: int) -> int | None:
        """The last of the layers, as for every method.

        Raises:
            ParameterInvalid: more layers than the tower has.
        """
        if self.layers > depth:
            raise ParameterInvalid(
                self.name, "layers", self.layers, f"at most the {depth} layers of this tower"
            )
        return super().score_layer(depth)

    def scores(self, tower: TowerView) -> torch.Tensor:
        total = self.heads(tower).mean(dim=1)
        for layer in range(2, self.layers + 1):
            total = total + self.heads(tower, -layer).mean(dim=1)
        return total
