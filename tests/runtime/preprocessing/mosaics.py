"""What the tests of images in tiles share: sizes of models and images, the oracle's calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vtp.runtime.preprocessing import Medium

SIDE, PATCH = 28, 4
GRID = (SIDE // PATCH, SIDE // PATCH)
TOKENS = GRID[0] * GRID[1]

# (width, height): square, odd, tall, wide, smaller than a tile, larger than every mosaic
SIZES = [
    (28, 28),
    (56, 56),
    (57, 55),
    (100, 41),
    (41, 100),
    (5, 4),
    (3, 60),
    (60, 3),
    (640, 427),
    (427, 640),
    (200, 199),
    (333, 35),
    (168, 168),
    (90, 170),
    (1, 70),
]
TEXT = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 8,
}
VISION = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "image_size": SIDE,
    "patch_size": PATCH,
}


def numbered(medium: Medium) -> torch.Tensor:
    """Features of the tiles, each of which is its own number, as the tower would give them."""
    count = len(medium.pixels) * medium.grid[0] * medium.grid[1]
    numbers = torch.arange(count, dtype=torch.float64)
    return numbers.reshape(len(medium.pixels), -1, 1)


def hf(processor: type, config: dict[str, Any], images: Any) -> np.ndarray:
    settings = {key: value for key, value in config.items() if key != "image_processor_type"}
    return np.asarray(processor(**settings)(images)["pixel_values"])


def assert_defaults(defaults: Mapping[str, Any], processor: type) -> None:
    """``defaults`` are the processor's class attributes."""
    for name, value in defaults.items():
        if name == "rescale_factor":
            continue  # a default of its base class's arguments
        theirs = getattr(processor, name, None)
        assert (tuple(theirs) if isinstance(value, tuple) else theirs) == value, name
