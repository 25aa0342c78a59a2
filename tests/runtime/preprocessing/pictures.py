"""Pictures for the tests of preprocessing."""

from __future__ import annotations

import numpy as np
from PIL import Image


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Noise over a gradient, so that a shift by one pixel or level shows."""
    noise = np.random.default_rng(width * 1000 + height).integers(0, 100, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    slope = np.stack([x * 155 // width, y * 155 // height, (x + y) * 155 // (width + height)], -1)
    image = Image.fromarray((noise + slope).astype(np.uint8))
    return Image.merge("RGBA", (*image.split(), image.convert("L"))) if mode == "RGBA" else image
