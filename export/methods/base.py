"""What a vision-side pruning method is: a score for each image token, higher is kept.

The base owns what methods must not differ on: how many tokens a keep means, the tie rule, the
order and the positions of the kept tokens, and the gather (``TopKTokens``).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from ..attention import symbolic


class TowerView(Protocol):
    """What a method may look at in the vision tower."""

    def cls_attention(self) -> torch.Tensor:
        """``(images, heads, tokens)`` float32: softmax of the [CLS] row, in the last layer run,
        over [CLS] and all image tokens; the [CLS] column itself is left out."""
        ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of the methods; a method is a frozen dataclass, its fields are its parameters."""

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str | None] = None
    prunes: ClassVar[bool] = True
    needs_cls: ClassVar[bool] = False
    default_keep: ClassVar[float] = 0.1
    positions: ClassVar[str] = "compact"

    def scores(self, tower: TowerView, features: torch.Tensor) -> torch.Tensor:
        """Importance of every image token.

        Args:
            tower: the run of the tower.
            features: ``(images, tokens, width)``, before the projector.

        Returns:
            ``(images, tokens)`` float32, higher is more important.
        """
        raise NotImplementedError

    def parameters(self) -> dict[str, Any]:
        """Name and value of every parameter, for the manifest."""
        return {f.name: asdict(self)[f.name] for f in fields(self)}


def fixed_scores(ranks: np.ndarray, features: torch.Tensor) -> torch.Tensor:
    """``ranks (tokens,)``, rank 0 is kept first -> ``(images, tokens)`` float32 scores."""
    if not torch.compiler.is_exporting():
        return -torch.from_numpy(ranks).float().expand(features.shape[0], -1)
    # As an ONNX node, because a tensor made while tracing on fake tensors would have no values.
    (scores,) = symbolic(
        "::Constant",
        (),
        {"value_floats": [-float(rank) for rank in ranks]},
        ((torch.float32, (len(ranks),)),),
    )
    return scores[None, :].expand(features.shape[0], -1)
