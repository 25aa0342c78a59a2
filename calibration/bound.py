"""How large a mean may really be, when some values of it were seen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

_BISECTIONS = 24
_ORDERS = 16


def upper_bound(
    values: Sequence[float] | np.ndarray, least: float, most: float, confidence: float
) -> float:
    """Upper confidence bound on the mean that independent values of one kind come from.

    It holds for any number of values and whatever their distribution, and follows from a bet
    against each mean that is too large (Waudby-Smith and Ramdas, "Estimating means of bounded
    random variables by betting", https://arxiv.org/abs/2010.09686, with their predictable bets).
    The bet is made over several orders of the values, drawn by a fixed seed, and the mean of what
    they win counts: so no order matters, and a file may be sorted.

    Args:
        values: ``(n,)``, each within ``least .. most``.
        least: smallest value that there can be.
        most: largest value that there can be.
        confidence: chance that the bound is not too low, in ``[0, 1)``; 0 gives the mean itself.

    Returns:
        The bound, at most ``most``; without values, ``most``.
    """
    seen = np.asarray(values, dtype=np.float64)
    if confidence == 0.0:
        return float(seen.mean()) if len(seen) else most
    if not len(seen):
        return most
    rng = np.random.default_rng(0)
    scaled = (np.stack([rng.permutation(seen) for _ in range(_ORDERS)]) - least) / (most - least)
    wanted = math.log(1.0 / (1.0 - confidence))
    bets = _bets(scaled, wanted)
    low, high = float(scaled[0].mean()), 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if _won(scaled, bets, middle) >= wanted else (middle, high)
    return least + high * (most - least)


def needed(drop: float, confidence: float) -> int:
    """Roughly how many lines without any change show that a mean in ``-1 .. 1`` is at most
    ``drop``."""
    count = 8
    while count < 10**7 and upper_bound(np.zeros(count), -1.0, 1.0, confidence) > drop:
        count = count * 5 // 4
    return count


def _bets(scaled: np.ndarray, wanted: float) -> np.ndarray:
    """What is staked on each value, from those before it alone, ``(orders, n)``."""
    count = np.arange(1, scaled.shape[1] + 1)
    means = (0.5 + np.cumsum(scaled, axis=1)) / (count + 1)
    spread = (0.25 + np.cumsum(np.square(scaled - means), axis=1)) / (count + 1)
    before = np.concatenate([np.full((len(scaled), 1), 0.25), spread[:, :-1]], axis=1)
    found: np.ndarray = np.sqrt(2 * wanted / (scaled.shape[1] * before))
    return found


def _won(scaled: np.ndarray, bets: np.ndarray, mean: float) -> float:
    """Logarithm of what a bet against a mean as large as ``mean`` ends with, mean over the
    orders."""
    # Less than all is staked, so that no single value ends the game.
    stakes = np.minimum(bets, 0.9 / max(1.0 - mean, 1e-12))
    logs = np.log1p(stakes * (mean - scaled)).sum(axis=1)
    top = logs.max()
    return float(top + np.log(np.exp(logs - top).mean()))
