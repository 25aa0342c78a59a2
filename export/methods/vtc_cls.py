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
    are numbered anew from zero, as in the published code. "[CLS] Token Tells Everything Needed for
    Training-free Efficient MLLMs", https://arxiv.org/abs/2412.05819. The paper is reported to
    recommend 3 layers, the published code's default start is layer 16 of CLIP-L (7 layers): both
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
    """Layers that are summed, the feature layer the last of them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers < 1:
            raise ParameterInvalid(self.name, "layers", self.layers, "a count of at least 1")

    def score_layer(self, depth: int) -> int | None:
        """As for every method; the last of the layers.

        Raises:
            ParameterInvalid: more layers than are run.
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
