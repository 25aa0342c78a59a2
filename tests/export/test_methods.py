"""The baselines keep what their descriptions say, through the exported graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vtp
from vtp.export.methods.uniform import farthest_point_ranks


def kept(bundle: Path, seed: int, keep: int) -> list[int]:
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    result = vtp.load(bundle).generate(image, "how many?", keep=keep, max_new_tokens=1)
    indices: list[int] = result.kept[0].tolist()
    return indices


def test_random_is_one_order_for_all_images_fixed_by_its_seed(
    exported: Callable[..., Path],
) -> None:
    first, second = (
        exported("shallow", "random", positions="original", seed=seed) for seed in (0, 3)
    )
    order = np.random.default_rng(3).permutation(144)
    # rank 0 is kept first: place j has rank order[j].
    assert kept(second, 5, 20) == sorted(np.flatnonzero(order < 20).tolist())
    assert kept(second, 5, 20) == kept(second, 6, 20)
    assert kept(first, 5, 20) != kept(second, 5, 20)


def test_uniform_leaves_no_part_of_the_picture_out(exported: Callable[..., Path]) -> None:
    bundle = exported("shallow", "uniform", positions="original")
    for keep in (9, 16, 36):
        places = np.array([divmod(j, 12) for j in kept(bundle, 5, keep)])
        every = np.array([divmod(j, 12) for j in range(144)])
        distance = np.sqrt(((every[:, None] - places[None]) ** 2).sum(-1)).min(axis=1)
        # A place farther from all kept ones than this would have been kept before some of them.
        spread = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))
        nearest = np.where(spread == 0, np.inf, spread).min()
        assert distance.max() <= nearest


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (7, 7), (24, 24)])
def test_every_place_has_its_own_rank(rows: int, columns: int) -> None:
    ranks = farthest_point_ranks(rows, columns)
    assert sorted(ranks.tolist()) == list(range(rows * columns))
