"""From the levels of a pixel, 0..255, to the numbers that the vision graph reads."""

from __future__ import annotations

import numpy as np
from PIL import Image

MAX_NUMBER = 1e6
"""Largest magnitude of a scale, mean or deviation; float32 never overflows within it."""

Three = tuple[float, float, float]


def is_number(value: object) -> bool:
    """Whether a value can be a scale, a mean or a deviation."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= MAX_NUMBER


def level_table(rescale: float, mean: Three, std: Three) -> np.ndarray:
    """``(3, 256)`` float32: the result for each channel and level.

    In the order and types of Hugging Face's processors on Pillow: rescaled in float64, the rest in
    float32.
    """
    rescaled = (np.arange(256, dtype=np.float64) * rescale).astype(np.float32)
    means, stds = (np.array(v, np.float32)[:, None] for v in (mean, std))
    return (rescaled - means) / stds


def write_levels(out: np.ndarray, image: Image.Image, table: np.ndarray) -> None:
    """Write an RGB image, looked up in ``table``, into ``out`` ``(3, height, width)`` float32."""
    raw = np.asarray(image)
    for channel in range(3):
        out[channel] = table[channel][raw[..., channel]]
