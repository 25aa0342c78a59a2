"""FastV: after a few layers, drop what the last token does not attend to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...runtime.bundle.plan import Drop
from .base import DecoderMethod


@dataclass(frozen=True, kw_only=True)
class FastV(DecoderMethod):
    """One drop, before ``layer``: attention of the prompt's last token in the layer before it.

    Follows the authors' implementation in transformers: only the row of the last token counts (the
    paper says the mean over all tokens), earlier layers keep every token in their cache, and
    positions do not change. "An Image is Worth 1/2 Tokens After Layer 2", https://arxiv.org/abs/2403.06764.
    """

    name: ClassVar[str] = "fastv"
    summary: ClassVar[str] = "attention of the last token, after the first layers of the decoder"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2403.06764"

    layer: int = 2
    """First layer that sees only the kept tokens (K)."""
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
