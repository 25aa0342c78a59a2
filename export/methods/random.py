"""Random selection: the baseline that every score has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .base import TowerView, VisionMethod, fixed_scores


@dataclass(frozen=True, kw_only=True)
class RandomOrder(VisionMethod):
    """One random order of the token places, drawn at export from ``seed``, for all images.

    The order is part of the graph so that every engine keeps the same tokens. To average over
    chance, export with several seeds.
    """

    name: ClassVar[str] = "random"
    summary: ClassVar[str] = "random places, fixed by a seed (baseline)"

    seed: int = 0
    """Seed of the order."""

    @property
    def needs_grid(self) -> bool:
        return True

    def scores(self, tower: TowerView) -> torch.Tensor:
        order = np.random.default_rng(self.seed).permutation(tower.features.shape[1])
        return fixed_scores(order, tower.features)
