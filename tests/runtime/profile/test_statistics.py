"""Statistics by their definitions, and intervals over rounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtp.runtime.profile.document import flat
from vtp.runtime.profile.statistics import PERCENTILES, Rounds, statistics

SERIES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=40)


def percentile(values: list[float], share: float) -> float:
    """Linear interpolation between the two neighbours of rank ``share * (n - 1)``."""
    ordered = sorted(values)
    rank = share / 100 * (len(ordered) - 1)
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (rank - low) * (ordered[high] - ordered[low])


@given(SERIES)
def test_every_statistic_is_what_its_name_says(values: list[float]) -> None:
    found = flat(statistics(values, "ms"))
    assert found["unit"] == "ms"
    assert found["count"] == len(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["sum"] == pytest.approx(sum(values))
    assert found["avg"] == pytest.approx(sum(values) / len(values))
    for share in PERCENTILES:
        assert found[f"p{share}"] == pytest.approx(percentile(values, share))
    if len(values) == 1:
        assert found["std"] is None
    else:
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        assert found["std"] == pytest.approx(math.sqrt(squares / (len(values) - 1)), abs=1e-6)


def test_the_names_are_those_of_aiperf() -> None:
    names = {"unit", "avg", "min", "max", "std", "count", "sum"}
    names |= {f"p{share}" for share in (1, 5, 10, 25, 50, 75, 90, 95, 99)}
    assert set(flat(statistics([1.0, 2.0], "ms"))) == names


def test_drift_that_hits_all_alike_leaves_the_ratio() -> None:
    """Each round is slower than the one before it; one series is always twice the other."""
    drift = np.linspace(1.0, 3.0, 12)
    rounds = Rounds({"whole": 20 * drift, "half": 10 * drift})
    ratio = rounds.ratio("whole", "half")
    assert ratio.value == pytest.approx(2.0)
    assert (ratio.low, ratio.high) == (pytest.approx(2.0), pytest.approx(2.0))
    median = rounds.estimate(lambda median: median("whole"))
    assert median.low is not None
    assert median.high is not None
    assert median.high / median.low > 1.3


def test_the_interval_covers_the_true_ratio_as_often_as_it_says() -> None:
    draw, hits, runs = np.random.default_rng(7), 0, 200
    for _ in range(runs):
        shared = draw.normal(1.0, 0.1, 20)
        rounds = Rounds(
            {"a": 30 * shared + draw.normal(0, 1, 20), "b": 10 * shared + draw.normal(0, 0.3, 20)}
        )
        found = rounds.ratio("a", "b")
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 3.0 <= found.high
    assert 0.88 <= hits / runs <= 1.0


def test_the_same_series_give_the_same_interval() -> None:
    draw = np.random.default_rng(0)
    series = {"a": draw.normal(10, 1, 9), "b": draw.normal(5, 1, 9)}
    assert Rounds(series).ratio("a", "b") == Rounds(series).ratio("a", "b")


@pytest.mark.parametrize("count", [1, 2])
def test_few_rounds_have_no_interval(count: int) -> None:
    found = Rounds({"a": np.full(count, 4.0), "b": np.full(count, 2.0)}).ratio("a", "b")
    assert (found.value, found.low, found.high) == (2.0, None, None)


def test_a_drifting_machine_has_a_wider_interval_than_a_noisy_one() -> None:
    """Neighbours that are alike tell less than as many values that are not."""
    walk = np.cumsum(np.random.default_rng(1).normal(0, 0.2, 32)) + 20
    widths = []
    for values in (walk, np.random.default_rng(2).permutation(walk)):
        found = Rounds({"a": values}).estimate(lambda median: median("a"))
        assert found.low is not None
        assert found.high is not None
        widths.append(found.high - found.low)
    assert widths[0] > 1.3 * widths[1]
