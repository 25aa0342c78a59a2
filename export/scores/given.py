"""Scores that come from elsewhere: a smaller model, or the vision graph."""

from __future__ import annotations

from typing import ClassVar

import torch

from ...runtime.bundle.contract import GIVEN_SCORES
from .base import Arriving, DropScore


class GuideScores(DropScore):
    """What a guide's text attended to (SGL)."""

    name: ClassVar[str] = "guide"
    summary: ClassVar[str] = (
        "attention in a smaller model, summed over its layers, heads and text rows"
    )
    inputs: ClassVar[tuple[str, ...]] = (GIVEN_SCORES,)
    from_layer: ClassVar[int | None] = None

    def forward(self, arriving: Arriving) -> torch.Tensor:
        assert arriving.given_scores is not None
        return arriving.given_scores


class VisionScores(GuideScores):
    """The score of the vision graph, used once more."""

    name: ClassVar[str] = "vision"
    summary: ClassVar[str] = "the score of the vision graph"
