"""Statistics of a series, named as AIPerf names them, and intervals by bootstrap over rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
CONFIDENCE = 0.95
FEWEST_ROUNDS = 3
"""With fewer there is no interval."""
_RESAMPLES = 2000
_SEED = 0

Medians = Callable[[str], np.ndarray]
"""Name of a series -> its median, one for each resample."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of one series."""

    unit: str
    avg: float
    min: float
    max: float
    percentiles: dict[str, float]
    """``p1`` to ``p99``; between two values by straight line, as ``numpy.percentile``."""
    std: float | None
    """Of a sample (divided by count - 1); None for one value."""
    count: int
    sum: float

    @property
    def p50(self) -> float:
        """The median."""
        return self.percentiles["p50"]


def statistics(values: Sequence[float] | np.ndarray, unit: str) -> Statistics:
    """Statistics of at least one value."""
    series = np.asarray(values, dtype=np.float64)
    found = np.percentile(series, PERCENTILES)
    return Statistics(
        unit=unit,
        avg=float(series.mean()),
        min=float(series.min()),
        max=float(series.max()),
        percentiles={f"p{p}": float(x) for p, x in zip(PERCENTILES, found, strict=True)},
        std=float(series.std(ddof=1)) if len(series) > 1 else None,
        count=len(series),
        sum=float(series.sum()),
    )


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number made of medians, with its interval."""

    value: float
    low: float | None
    """Lower end of the interval of ``CONFIDENCE``; None with too few rounds."""
    high: float | None

    def reaches(self, number: float) -> bool:
        """Whether the interval goes up to ``number``; the value, where there is none."""
        return (self.value if self.high is None else self.high) >= number


class Rounds:
    """Series that were measured in the same rounds: value ``i`` of each belongs to round ``i``.

    An interval comes from drawing rounds, whole and with repetition: what two series share in a
    round, such as a busy machine, cancels in their ratio. Rounds near each other are alike, so
    runs of neighbours are drawn together (the circular block bootstrap of Politis and Romano,
    1992), as long as the square root of their number. Draws are the same in every run.

    Args:
        series: name -> one value for each round.
    """

    def __init__(self, series: dict[str, np.ndarray]) -> None:
        self._series = series
        self.count = len(next(iter(series.values())))
        block = round(self.count**0.5)
        draw = np.random.default_rng(_SEED)
        firsts = draw.integers(0, self.count, (_RESAMPLES, -(-self.count // block), 1))
        drawn = (firsts + np.arange(block)) % self.count
        self._drawn = drawn.reshape(_RESAMPLES, -1)[:, : self.count]

    def __contains__(self, name: str) -> bool:
        return name in self._series

    def median(self, name: str) -> float:
        """Of a series; 0 of one that was never measured."""
        return float(np.median(self._series[name])) if name in self._series else 0.0

    def estimate(self, formula: Callable[[Medians], np.ndarray]) -> Estimate:
        """A formula over medians, and the interval of it over the drawn rounds."""

        def whole(name: str) -> np.ndarray:
            return np.array([self.median(name)])

        def drawn(name: str) -> np.ndarray:
            if name not in self._series:
                return np.zeros(_RESAMPLES)
            medians: np.ndarray = np.median(self._series[name][self._drawn], axis=1)
            return medians

        value = float(formula(whole)[0])
        if self.count < FEWEST_ROUNDS:
            return Estimate(value=value, low=None, high=None)
        edge = (1 - CONFIDENCE) / 2
        low, high = np.quantile(formula(drawn), [edge, 1 - edge])
        return Estimate(value=value, low=float(low), high=float(high))

    def ratio(self, name: str, to: str) -> Estimate:
        """How many times smaller ``to`` is than ``name``: ``median(name) / median(to)``."""
        return self.estimate(lambda median: median(name) / median(to))
