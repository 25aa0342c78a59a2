"""The bound on a loss: what defines it, and how often it holds on drawn values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vtp.calibration.bound import needed, upper_bound


def losses(lost: int, gained: int, count: int) -> np.ndarray:
    """So many questions, in no particular order."""
    values = np.array([1] * lost + [-1] * gained + [0] * (count - lost - gained))
    return np.random.default_rng(1).permutation(values)


@pytest.mark.parametrize(
    ("lost", "gained", "count"), [(3, 1, 44), (0, 4, 60), (5, 10, 300), (40, 5, 300)]
)
def test_it_is_where_the_score_test_just_rejects(lost: int, gained: int, count: int) -> None:
    """By its definition: (mean - bound) over its standard error is -z, the error taken at the
    likeliest shares of gains and losses that differ by the bound, here found on a fine grid."""
    bound = upper_bound(losses(lost, gained, count), 0.95)
    gains = np.linspace(max(0.0, -bound), (1 - bound) / 2, 2_000_001)[1:-1]
    neither = 1 - bound - 2 * gains
    likelihood = (
        lost * np.log(gains + bound)
        + gained * np.log(gains)
        + (count - lost - gained) * np.log(neither)
    )
    share = gains[likelihood.argmax()]
    error = math.sqrt((2 * share + bound - bound**2) / count)
    assert ((lost - gained) / count - bound) / error == pytest.approx(-1.6448536, rel=1e-3)


@pytest.mark.parametrize(("lost", "count"), [(0, 50), (3, 100), (40, 200)])
def test_without_gains_it_is_wilsons(lost: int, count: int) -> None:
    z, share = 1.6448536, lost / count
    middle = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    wilson = (middle + reach) / (1 + z * z / count)
    assert upper_bound(losses(lost, 0, count), 0.95) == pytest.approx(wilson, rel=1e-6)


@pytest.mark.parametrize("lost", [0.01, 0.03, 0.2])
@pytest.mark.parametrize("gained", [0.0, 0.02])
@pytest.mark.parametrize("count", [100, 400])
def test_it_is_too_low_about_as_rarely_as_it_says(lost: float, gained: float, count: int) -> None:
    rng = np.random.default_rng(7)
    shares = [lost, gained, 1 - lost - gained]
    misses = sum(
        upper_bound(rng.choice([1, -1, 0], size=count, p=shares), 0.9) < lost - gained
        for _ in range(1000)
    )
    assert misses <= 160


def test_more_confidence_and_more_losses_raise_it() -> None:
    bounds = [upper_bound(losses(5, 2, 200), c) for c in (0.0, 0.5, 0.6, 0.9, 0.99)]
    assert bounds == sorted(bounds)
    assert bounds[0] == bounds[1] == pytest.approx(0.015)
    assert len(set(bounds)) == 4
    assert upper_bound(losses(9, 2, 200), 0.9) > bounds[3]


def test_ends() -> None:
    assert upper_bound([], 0.95) == 1.0
    assert upper_bound([1.0] * 50, 0.95) == pytest.approx(1.0)
    assert upper_bound([-1.0] * 50, 0.95) < -0.8


def test_how_many_questions_it_takes() -> None:
    count = needed(0.01, 0.95)
    assert upper_bound(np.zeros(count), 0.95) <= 0.01 < upper_bound(np.zeros(count - 2), 0.95)
