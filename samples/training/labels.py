"""What every patch of a scene shows: the targets of the tower's training."""

from __future__ import annotations

import numpy as np

from ..drawing import COLOURS, SHAPES
from ..scenes import UNITS, Scene, thing_mask

TILE = len(SHAPES) + 1
"""Class of the tile in the shape plane."""

FIELDS = ("colour", "shape", "digit", "place", "centre", "cell")
"""Label planes, each (patches,) uint8. Colour and shape: 0 is background, `TILE` the tile's shape;
digit: 0 is none, d + 1 otherwise; place: 1 tens, 2 ones; cell: 0 is none, area + 1 otherwise."""

CLASSES = {
    "colour": len(COLOURS) + 1,
    "shape": TILE + 1,
    "digit": 11,
    "place": 3,
    "centre": 2,
    "cell": 10,
}

_MIN_COVER = 0.22
"""Share of a patch that a thing must cover to be named there."""

_CENTRE_BONUS = 1.5
"""Attention wanted on a centre patch, over what its cover alone would give."""


def patch_labels(scene: Scene, grid: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Label planes as in `FIELDS` and the wanted [CLS] attention, both over grid*grid patches.

    The wanted attention is float32 and sums to 1 (0 for a scene without things): every shape and
    every digit has equal mass, its centre patch the most of it, so that a selection by that row
    meets all things before it repeats one.
    """
    patch = UNITS // grid
    planes = {name: np.zeros(grid * grid, np.uint8) for name in FIELDS}
    wanted = np.zeros(grid * grid, np.float32)
    best = np.full(grid * grid, _MIN_COVER, np.float32)
    for thing in scene.things:
        whole = np.zeros((UNITS, UNITS), np.float32)
        mask, (left, top) = thing_mask(thing, 1.0)
        pixels = np.asarray(mask, np.float32) / 255
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(top + pixels.shape[0], UNITS), min(left + pixels.shape[1], UNITS)
        whole[top:bottom, left:right] = pixels[: bottom - top, : right - left]
        halves = (left, round(thing.x), right) if thing.is_tile else (left, right)
        for part in range(len(halves) - 1):
            piece = np.zeros_like(whole)
            piece[:, halves[part] : halves[part + 1]] = whole[:, halves[part] : halves[part + 1]]
            cover = piece.reshape(grid, patch, grid, patch).mean((1, 3)).ravel()
            x = (halves[part] + halves[part + 1]) / 2 if thing.is_tile else thing.x
            middle = int(thing.y // patch) * grid + int(x // patch)
            mine = (cover > best) | (np.arange(grid * grid) == middle)
            best[mine] = np.maximum(cover[mine], best[mine])
            planes["colour"][mine] = 1 + list(COLOURS).index(thing.colour)
            planes["shape"][mine] = TILE if thing.is_tile else 1 + SHAPES.index(thing.name)
            planes["digit"][mine] = 1 + int(thing.name[part]) if thing.is_tile else 0
            planes["place"][mine] = 1 + part if thing.is_tile else 0
            planes["cell"][mine] = 1 + thing.cell
            planes["centre"][middle] = 1
            mass = np.where(cover > _MIN_COVER, cover, 0)
            mass[middle] += _CENTRE_BONUS
            wanted += (mass / mass.sum()).astype(np.float32)
    return planes, wanted / max(float(wanted.sum()), 1e-6)
