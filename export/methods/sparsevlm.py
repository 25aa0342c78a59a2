"""SparseVLM: text tokens that matter rate the image tokens; some of the dropped are recycled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import ParameterInvalid
from ...runtime.bundle.plan import Drop
from .base import DecoderMethod, check_choice

V1, V2 = "v1", "v2"
_AFTER = (3, 7, 16)
# Published counts of 576 tokens, for an average that the authors call by the preset's number.
_KEPT = {
    "192": (300, 200, 110),
    "128": (303, 110, 36),
    "96": (238, 48, 26),
    "64": (66, 30, 17),
    "v2-192": (300, 200, 118),
    "v2-128": (238, 108, 60),
    "v2-96": (246, 54, 28),
    "v2-64": (66, 34, 20),
}


def _preset(name: str) -> Mapping[str, Any]:
    version = V2 if name.startswith(V2) else V1
    return {"version": version, "ratios": tuple(count / 576 for count in _KEPT[name])}


@dataclass(frozen=True, kw_only=True)
class SparseVlm(DecoderMethod):
    """Drops after layers 2, 6 and 15 by the attention of rater tokens.

    Version ``v1`` (v1.5 of the authors' code) merges the best of what it drops into a few tokens,
    which stand behind the kept ones, and numbers positions anew at every drop. Version ``v2``
    merges nothing, keeps positions and corrects the attention for rotary positions (see
    ``scores/raters.py``). Both are deterministic here: no random noise in the clustering, and the
    first of equals wins. All is computed in float32, where the published code uses float16. With
    several images the raters are the text tokens after the last one. "SparseVLM: Visual Token
    Sparsification for Efficient Vision-Language Model Inference", https://arxiv.org/abs/2410.04417.
    """

    name: ClassVar[str] = "sparsevlm"
    summary: ClassVar[str] = "attention of rater words, in stages; some dropped tokens are merged"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2410.04417"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {name: _preset(name) for name in _KEPT}

    version: str = V1
    """``v1`` or ``v2``."""
    layers: tuple[int, ...] = ()
    """First layer after each drop; empty: 3, 7, 16 of 32 layers, or the same shares of another
    depth."""
    ratios: tuple[float, ...] = tuple(count / 576 for count in _KEPT["192"])
    """Default keep after each drop."""
    recycle: float = 0.3
    """Share of the dropped tokens that are merged into a tenth of their number (v1 only)."""

    def __post_init__(self) -> None:
        check_choice(self.name, "version", self.version, (V1, V2))
        if not 0 < self.recycle <= 1:
            raise ParameterInvalid(self.name, "recycle", self.recycle, "a share in (0, 1]")
        if self.budget != "all" and self.version == V1:
            raise ParameterInvalid(
                self.name, "budget", self.budget, "all (version v1 merges over all images)"
            )

    @property
    def positions(self) -> str:
        return "compact-per-stage" if self.version == V1 else "original"

    def drops(self, depth: int) -> tuple[Drop, ...]:
        return tuple(
            Drop(
                layer=layer,
                keep=ratio,
                score="raters" if self.version == V1 else "raters-degravitated",
                score_layer=layer - 1,
                budget=self.budget,
                recycle=self.recycle if self.version == V1 else None,
            )
            for layer, ratio in self.places(self.layers, self.ratios, _AFTER, depth)
        )
