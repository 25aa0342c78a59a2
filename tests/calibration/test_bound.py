"""The bound on a mean: what theory says of it, and how often it holds on drawn values."""

from __future__ import annotations

import numpy as np
import pytest

from vtp.calibration.bound import needed, upper_bound


@pytest.mark.parametrize("lost", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("won", [0.0, 0.02])
def test_it_is_too_low_as_rarely_as_it_says(lost: float, won: float) -> None:
    rng = np.random.default_rng(7)
    misses = 0
    for _ in range(200):
        values = rng.choice([1.0, -1.0, 0.0], size=150, p=[lost, won, 1 - lost - won])
        misses += upper_bound(values, -1.0, 1.0, 0.9) < lost - won
    # 10 % are allowed; 32 of 200 would be three standard deviations more.
    assert misses <= 32


@pytest.mark.parametrize("count", [100, 300, 1000])
def test_without_a_loss_it_is_near_the_rule_of_three(count: int) -> None:
    """No method can promise less than 3 / n at 95 % of a share that was never seen."""
    bound = upper_bound(np.zeros(count), -1.0, 1.0, 0.95)
    assert 3 / count * 0.95 <= bound <= 3 / count * 1.6


def test_more_confidence_and_more_losses_raise_it() -> None:
    values = np.array([1.0] * 5 + [0.0] * 195)
    bounds = [upper_bound(values, -1.0, 1.0, c) for c in (0.0, 0.5, 0.9, 0.99)]
    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(0.025)
    assert len(set(bounds)) == 4
    assert upper_bound(np.array([1.0] * 9 + [0.0] * 191), -1.0, 1.0, 0.9) > bounds[2]


def test_the_order_does_not_matter() -> None:
    """A sorted file says nothing else than a mixed one."""
    values = np.array([1.0] * 20 + [0.0] * 180)
    bounds = [upper_bound(np.roll(values, by), -1.0, 1.0, 0.95) for by in range(0, 200, 20)]
    assert min(bounds) > 0.11
    assert max(bounds) - min(bounds) < 0.03


@pytest.mark.parametrize("confidence", [0.0, 0.95])
def test_ends(confidence: float) -> None:
    assert upper_bound([], -1.0, 1.0, confidence) == 1.0
    assert upper_bound([1.0] * 50, -1.0, 1.0, confidence) == pytest.approx(1.0)


def test_how_many_lines_it_takes() -> None:
    count = needed(0.01, 0.95)
    assert upper_bound(np.zeros(count), -1.0, 1.0, 0.95) <= 0.01
    assert upper_bound(np.zeros(count // 2), -1.0, 1.0, 0.95) > 0.01
