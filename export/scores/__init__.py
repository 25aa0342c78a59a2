"""What ranks image tokens at a drop in the decoder, one file each; a new score is a file and a
row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ScoreUnknown
from ...registry import load_row

if TYPE_CHECKING:
    from .base import DropScore

SCORES: dict[str, str] = {
    "attention": "attention:LastRowAttention",
    "next-attention": "next_attention:NextLayerAttention",
    "raters": "raters:RatersAttention",
    "raters-degravitated": "raters:DegravitatedRaters",
    "guide": "given:GuideScores",
    "vision": "given:VisionScores",
}


def score_class(name: str) -> type[DropScore]:
    """The class of a score.

    Raises:
        ScoreUnknown: no such score.
    """
    if name not in SCORES:
        raise ScoreUnknown(name, SCORES)
    found: type[DropScore] = load_row(SCORES[name], __name__)
    return found
