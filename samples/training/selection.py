"""The token selections that training mixes and accuracy compares; all keep raster order."""

from __future__ import annotations

import numpy as np

SELECTIONS = ("cls", "random", "uniform")


def kept_count(tokens: int, keep: float) -> int:
    """Tokens that a keep ratio leaves: rounded half to even, at least one."""
    return max(1, round(tokens * keep))


def select(name: str, scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Kept indices, (batch, count) int64 ascending, for scores (batch, tokens).

    `cls` takes the highest scores, the lower index first among equals; `random` a subset of each
    picture's own; `uniform` evenly spaced raster indices.
    """
    batch, tokens = scores.shape
    if name == "cls":
        kept = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    elif name == "random":
        kept = np.argsort(rng.random((batch, tokens)), axis=1)[:, :count]
    else:
        spaced = np.floor((np.arange(count) + 0.5) * tokens / count).astype(np.int64)
        kept = np.broadcast_to(spaced, (batch, count))
    return np.sort(kept, axis=1).astype(np.int64)
