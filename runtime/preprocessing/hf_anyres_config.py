"""Reads the settings of Hugging Face's LLaVA-NeXT and LLaVA-OneVision processors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from .hf_image_config import DEFAULTS, background_from, edges, levels_from, settings_from
from .hf_video_config import check_like_images, sampling_from
from .sampling import Sampling

NEXT_TYPES = (
    "LlavaNextImageProcessor",
    "LlavaNextImageProcessorFast",
    "LlavaNextImageProcessorPil",
)
ONEVISION_TYPES = (
    "LlavaOnevisionImageProcessor",
    "LlavaOnevisionImageProcessorFast",
    "LlavaOnevisionImageProcessorPil",
)
ONEVISION_FRAMES = 32
"""Frames that LLaVA-OneVision was trained on, taken where its configuration names no other."""

NEXT_DEFAULTS: dict[str, Any] = DEFAULTS | {
    "do_pad": True,
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}
"""Class attributes of ``LlavaNextImageProcessorPil``."""
ONEVISION_DEFAULTS: dict[str, Any] = DEFAULTS | {
    "size": {"height": 384, "width": 384},
    "crop_size": None,
    "do_center_crop": None,
    "do_pad": True,
    "image_grid_pinpoints": [
        [384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)
    ],
}
"""Class attributes of ``LlavaOnevisionImageProcessorPil``, and of its video processor."""


def fields_from_hf_config(
    config: Mapping[str, Any], model: Mapping[str, Any], video: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The fields of an ``AnyResPreprocessor`` but for ``grid``; ranges are for its own checks.

    Args:
        config: The contents of a ``preprocessor_config.json``.
        model: The contents of a ``config.json``.
        video: The contents of a ``video_preprocessor_config.json``.

    Raises:
        ModelNotSupported: Another processor, tiles that are not square or not of one size, or a
            model that sees other mosaics than its processor makes.
    """
    onevision = config.get("image_processor_type") in ONEVISION_TYPES
    if onevision:
        settings = settings_from(config, ONEVISION_DEFAULTS, ONEVISION_TYPES)
    else:
        settings = settings_from(config, NEXT_DEFAULTS, NEXT_TYPES)
    side = _side(settings)
    points = settings["image_grid_pinpoints"]
    if model.get("image_grid_pinpoints", points) != points:
        raise ModelNotSupported(
            "an image processor whose image_grid_pinpoints are not those of config.json",
            ["the same in both"],
        )
    pinpoints = _pinpoints(points)
    for height, width in pinpoints:
        if height % side or width % side:
            raise ModelNotSupported(
                f"image_grid_pinpoints with {[height, width]}", [f"multiples of {side} pixels"]
            )
    values = levels_from(settings) | {"side": side, "pinpoints": pinpoints}
    if not onevision:
        return values
    return values | {
        "most": _most(model.get("vision_aspect_ratio", "anyres_max_9")),
        "pad_to_square": background_from(settings),
        "sampling": _sampling(settings, config if video is None else video),
    }


def _side(settings: Mapping[str, Any]) -> int:
    """Pixels of a tile: what is resized, cut and cropped must be of one size, and square."""
    size = edges("size", settings["size"], square=bool(settings["default_to_square"]))
    crop = edges("crop_size", settings["crop_size"] or settings["size"], square=True)
    first, *others = (
        part for edge in (size, crop) for part in (edge if isinstance(edge, tuple) else (edge,))
    )
    side: int = first
    if any(part != side for part in others) or type(side) is not int or side < 1:
        raise ModelNotSupported(
            f"size {settings['size']!r} with crop_size {settings['crop_size']!r}",
            ["one number of pixels for both, the side of a square tile"],
        )
    return side


def _pinpoints(points: Any) -> tuple[tuple[int, int], ...]:
    try:
        found = tuple((height, width) for height, width in points)
    except (TypeError, ValueError):
        found = ()
    if not found or not all(isinstance(part, int) for point in found for part in point):
        raise ModelNotSupported(f"image_grid_pinpoints {points!r}", ["a list of [height, width]"])
    return found


def _most(aspect: object) -> int:
    found = re.fullmatch(r"anyres_max_(\d+)", str(aspect))
    if not found:
        raise ModelNotSupported(f"vision_aspect_ratio {aspect!r}", ["anyres_max_ and a number"])
    return int(found[1])


def _sampling(settings: Mapping[str, Any], video: Mapping[str, Any]) -> Sampling:
    check_like_images(settings, ONEVISION_DEFAULTS, video)
    return sampling_from(video, count=ONEVISION_FRAMES)
