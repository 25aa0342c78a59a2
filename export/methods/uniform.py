"""Uniform selection: an even spread over the picture, whatever is on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .base import TowerView, VisionMethod, fixed_scores


@dataclass(frozen=True, kw_only=True)
class UniformGrid(VisionMethod):
    """Farthest-point order of the patch grid, so that any number of kept tokens lies evenly.

    The order starts at the centre; each next place is the one farthest (Euclidean distance between
    patch centres) from all places before it, the lower index first on ties.
    """

    name: ClassVar[str] = "uniform"
    summary: ClassVar[str] = "places spread evenly over the patch grid (baseline)"

    @property
    def needs_grid(self) -> bool:
        return True

    def scores(self, tower: TowerView) -> torch.Tensor:
        return fixed_scores(farthest_point_ranks(*tower.grid), tower.features)


def farthest_point_ranks(rows: int, columns: int) -> np.ndarray:
    """Rank of every place of the grid in farthest-point order, ``(rows * columns,)`` int64."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    places = np.stack([y, x], axis=1).astype(np.float64)
    centre = int((rows // 2) * columns + columns // 2)
    distance = np.full(len(places), np.inf)
    ranks = np.zeros(len(places), dtype=np.int64)
    chosen = centre
    for rank in range(len(places)):
        ranks[chosen] = rank
        distance = np.minimum(distance, np.square(places - places[chosen]).sum(axis=1))
        distance[chosen] = -1.0
        chosen = int(distance.argmax())
    return ranks
