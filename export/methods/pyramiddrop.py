"""PyramidDrop: drop in stages, more of the tokens the deeper the layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...runtime.bundle.plan import Drop
from .base import DecoderMethod


@dataclass(frozen=True, kw_only=True)
class PyramidDrop(DecoderMethod):
    """Drops before some layers, each by the last prompt token's attention in the layer that
    follows.

    As the published code: the score is computed from the next layer's norm, query and key before
    that layer runs, counts are ``int(ratio * original count)``, and positions are numbered anew at
    every drop. "PyramidDrop: Accelerating Your Large Vision-Language Models via Pyramid Visual
    Redundancy Reduction", https://arxiv.org/abs/2410.17247.
    """

    name: ClassVar[str] = "pyramiddrop"
    summary: ClassVar[str] = "attention of the last token, in several stages of the decoder"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2410.17247"

    layers: tuple[int, ...] = ()
    """First layer of each stage after the first; empty: 8, 16, 24 of 32 layers, or the same shares
    of another depth."""
    ratios: tuple[float, ...] = (0.5, 0.25, 0.125)
    """Default keep of each of these stages."""
    budget: str = "image"

    @property
    def positions(self) -> str:
        return "compact-per-stage"

    def drops(self, depth: int) -> tuple[Drop, ...]:
        return tuple(
            Drop(
                layer=layer,
                keep=ratio,
                score="next-attention",
                score_layer=layer,
                rounding="floor",
                budget=self.budget,
            )
            for layer, ratio in self.places(self.layers, self.ratios, (8, 16, 24), depth)
        )
