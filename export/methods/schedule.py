"""A free schedule: any layers, keeps and scores, for schedules found by search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...errors import ParameterInvalid
from ...runtime.bundle.keep import check_keep, parse_keep
from ...runtime.bundle.plan import Drop
from ..scores import score_class
from .base import DecoderMethod


@dataclass(frozen=True, kw_only=True)
class FreeSchedule(DecoderMethod):
    """Drops given one by one (``--stage LAYER:KEEP:SCORE``).

    Whatever says how many tokens each layer needs (FitPrune, G-Search, a search of one's own) can
    be written so.
    """

    name: ClassVar[str] = "schedule"
    summary: ClassVar[str] = "any layers, keeps and scores (--stage LAYER:KEEP:SCORE)"

    stages: tuple[str, ...] = ()
    """``LAYER:KEEP:SCORE`` each, such as ``2:0.5:attention``."""

    def __post_init__(self) -> None:
        for text in self.stages:
            self._drop(text)

    def drops(self, depth: int) -> tuple[Drop, ...]:
        found = [self._drop(text) for text in self.stages]
        self.check_layers([drop.layer for drop in found], depth)
        return tuple(found)

    def _drop(self, text: str) -> Drop:
        parts = text.split(":")
        if len(parts) != 3 or not parts[0].strip().isdigit():
            raise ParameterInvalid(
                self.name, "stage", text, "LAYER:KEEP:SCORE, such as 2:0.5:attention"
            )
        layer, keep = int(parts[0]), parse_keep(parts[1])
        check_keep(keep)
        score = score_class(parts[2])
        offset = score.from_layer
        return Drop(
            layer=layer,
            keep=keep,
            score=score.name,
            score_layer=None if offset is None else layer + offset,
            budget=self.budget,
        )
