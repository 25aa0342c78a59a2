"""SGL: a small model says which image tokens a large one needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...errors import ParameterInvalid
from ...runtime.bundle.plan import Drop
from .base import DecoderMethod


@dataclass(frozen=True, kw_only=True)
class SmallVlmGuidance(DecoderMethod):
    """The large model's side: one drop by the scores of a guide, given at run time.

    The guide is a bundle of a smaller model exported with ``--method guide``; see
    ``runtime/chat/guide.py`` for its side and for the early exit. "A Stitch in Time Saves Nine:
    Small VLM is a Precise Guidance for Accelerating Large VLMs", https://arxiv.org/abs/2412.03324.
    """

    name: ClassVar[str] = "sgl"
    summary: ClassVar[str] = "attention of a smaller model while it answers (needs a guide)"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2412.03324"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "64": {"depth_share": 0.4, "kept": 0.4},
        "35": {"depth_share": 0.2, "kept": 0.2},
        "9": {"depth_share": 0.05, "kept": 0.05},
    }

    depth_share: float = 0.2
    """The drop comes after this share of the layers, rounded down, at least 1."""
    kept: float = 0.2
    """Default keep."""

    def __post_init__(self) -> None:
        if not 0 < self.depth_share < 1:
            raise ParameterInvalid(self.name, "depth_share", self.depth_share, "a share in (0, 1)")

    def drops(self, depth: int) -> tuple[Drop, ...]:
        layer = max(1, int(depth * self.depth_share))
        self.check_layers([layer], depth)
        return (
            Drop(
                layer=layer,
                keep=self.kept,
                score="guide",
                score_layer=None,
                rounding="floor",
                budget=self.budget,
            ),
        )
