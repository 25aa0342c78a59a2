"""What the score of a drop inside the decoder may read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engines.base import Buffer
from .cache import StageCache
from .token_placement import TokenPlacement


@dataclass
class ScoreInputs:
    """What a drop's score may read."""

    outputs: Mapping[str, Buffer]
    cache: StageCache
    placement: TokenPlacement
    external: Mapping[str, Sequence[np.ndarray]]
    computed: Mapping[str, np.ndarray]
    """What graphs before the stages put out, by name."""

    def external_scores(self, name: str, groups: int) -> np.ndarray:
        """``(groups, candidates)``: of the tokens that arrive, picked from scores of all."""
        placement = self.placement
        # A merged token stands for no place: it comes last.
        found = np.full(len(placement.image_rows), np.finfo(np.float32).min, np.float32)
        for image, scores in enumerate(self.external[name]):
            own = (placement.images == image) & (placement.entries >= 0)
            found[own] = scores[placement.entries[own]]
        return found.reshape(groups, -1)
