"""The geometry of an image that is cut into a mosaic of tiles, after LLaVA-NeXT and OneVision.

Sources: ``select_best_resolution`` and ``get_patch_output_size`` in
``transformers/image_processing_utils.py``; ``unpad_image`` in
``models/llava_next/modeling_llava_next.py``; ``pack_image_features`` in
``models/llava_onevision/modeling_llava_onevision.py``. Sizes are ``(height, width)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from .base import SEPARATOR, Resample

Size = tuple[int, int]


def best_resolution(size: Size, resolutions: Iterable[Size]) -> Size | None:
    """The resolution that shows most of an image, and wastes least where several do.

    Returns:
        None where the image would be less than a pixel wide in all of them.
    """
    height, width = size
    best = None
    most, least_wasted = 0, math.inf
    for rows, columns in resolutions:
        scale = min(columns / width, rows / height)
        shown = min(int(width * scale) * int(height * scale), height * width)
        wasted = rows * columns - shown
        if shown > most or (shown == most and wasted < least_wasted):
            best, most, least_wasted = (rows, columns), shown, wasted
    return best if most else None


def fitted(size: Size, target: Size) -> Size:
    """The size of an image scaled into ``target`` with its aspect ratio kept."""
    height, width = size
    across, down = target[1] / width, target[0] / height
    if across < down:
        return min(math.ceil(height * across), target[0]), target[1]
    return target[0], min(math.ceil(width * down), target[1])


def token_numbers(tiles: Size, grid: Size, first: int = 1) -> np.ndarray:
    """The tokens of a mosaic by its rows and columns.

    Args:
        tiles: Rows and columns of tiles.
        grid: Rows and columns of tokens of a tile.
        first: Number of the first tile of the mosaic.

    Returns:
        ``(rows, columns)`` int64, each ``tile * tokens + token``.
    """
    count = tiles[0] * tiles[1] * grid[0] * grid[1]
    by_tile = first * grid[0] * grid[1] + np.arange(count, dtype=np.int64)
    by_place = by_tile.reshape(*tiles, *grid).transpose(0, 2, 1, 3)
    numbers: np.ndarray = by_place.reshape(tiles[0] * grid[0], tiles[1] * grid[1])
    return numbers


def unpadded(mosaic: np.ndarray, size: Size) -> np.ndarray:
    """The part of a mosaic that shows the image and not the bars beside it.

    Args:
        mosaic: ``(rows, columns)``.
        size: Of the original image.
    """
    height, width = size
    rows, columns = mosaic.shape[:2]
    shown_part: np.ndarray
    if width / height > columns / rows:
        shown = int(round(height * (columns / width), 7))
        bar = (rows - shown) // 2
        shown_part = mosaic[bar : rows - bar]
        return shown_part
    shown = int(round(width * (rows / height), 7))
    bar = (columns - shown) // 2
    shown_part = mosaic[:, bar : columns - bar]
    return shown_part


def shrunken_size(shape: Size, grid: Size, most: int) -> Size | None:
    """Rows and columns to which a mosaic of more than ``most`` tiles' worth is shrunken.

    Returns:
        None where it is left as it is.
    """
    ratio = math.sqrt(shape[0] * shape[1] / (most * grid[0] ** 2))
    if ratio <= 1.1:
        return None
    return int(shape[0] // ratio), int(shape[1] // ratio)


def bilinear(mosaic: np.ndarray, size: Size) -> Resample:
    """A mosaic shrunken as ``torch.nn.functional.interpolate`` does (bilinear, no antialias).

    Args:
        mosaic: ``(rows, columns)`` token numbers.
        size: Rows and columns to make of it.
    """
    (top, bottom, down), (left, right, across) = map(_between, mosaic.shape, size)
    corners = [mosaic[np.ix_(rows, columns)] for rows in (top, bottom) for columns in (left, right)]
    weights = [
        rows[:, None] * columns[None]
        for rows in (1 - down, down)
        for columns in (1 - across, across)
    ]
    return Resample(
        index=np.stack(corners, -1).reshape(-1, 4),
        weight=np.stack(weights, -1).reshape(-1, 4).astype(np.float32),
    )


def _between(length: int, made: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of ``made`` places: the two of ``length`` around it, and the share of the second.

    In float32 as torch computes them (``area_pixel_compute_source_index``), whose kernels multiply
    and subtract with one rounding: float64 holds the product.
    """
    scale = np.float64(np.float32(length) / np.float32(made))
    places = ((np.arange(made) + 0.5) * scale - 0.5).clip(0).astype(np.float32)
    first = np.minimum(places.astype(np.int64), length - 1)
    second = np.minimum(first + 1, length - 1)
    return first, second, np.clip(places - first.astype(np.float32), 0, 1)


def with_separators(rows: np.ndarray) -> np.ndarray:
    """The rows one after the other, each with a ``SEPARATOR`` at its end."""
    ends = np.full((len(rows), 1), SEPARATOR, np.int64)
    return np.concatenate([rows, ends], 1).reshape(-1)
