"""FastV: after a few layers, drop what the last token does not attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...runtime.bundle.plan import Drop
from .base import DecoderMethod


@dataclass(frozen=True, kw_only=True)
class FastV(DecoderMethod):
    """One drop, before ``layer``: attention of the prompt's last token in the layer before it.

    As the authors' implementation in transformers does: the last token's row alone (the paper says
    the mean over all tokens), the layers before keep every token in their cache, and positions stay
    as they were. "An Image is Worth 1/2 Tokens After Layer 2", https://arxiv.org/abs/2403.06764.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "attention of the last token, after the first layers of the decoder"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2403.06764"

    layer: int = 2
    """First layer that sees the kept tokens only (K)."""
    kept: float = 0.5
    """Default keep (1 - R)."""

    def drops(self, depth: int) -> tuple[Drop, ...]:
        self.check_layers([self.layer], depth)
        return (
            Drop(
                layer=self.layer,
                keep=self.kept,
                score="attention",
                score_layer=self.layer - 1,
                budget=self.budget,
            ),
        )
