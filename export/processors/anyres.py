"""Reads the settings of Hugging Face's LLaVA-NeXT and LLaVA-OneVision processors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.media.frame_sampling import FrameSampling
from ...runtime.preprocessing.anyres import AnyResPreprocessor, rules
from .settings import DEFAULTS, background_from, check_model, edges, levels_from, settings_from
from .video import check_like_images, sampling_from

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


def anyres_preprocessor(
    config: Mapping[str, Any],
    grid: tuple[int, int],
    *,
    model: Mapping[str, Any],
    video: Mapping[str, Any] | None = None,
    layout: str = "unpad",
) -> AnyResPreprocessor:
    """Read the configuration of LLaVA-NeXT's or LLaVA-OneVision's image processor.

    Args:
        config: The contents of ``preprocessor_config.json``.
        grid: Rows and columns of the image tokens of one tile.
        model: The contents of ``config.json``.
        video: The contents of ``video_preprocessor_config.json``, where there is one.
        layout: See the field.

    Raises:
        ModelNotSupported: A processor, flag or value that cannot be reproduced here.
    """
    values = _fields(config, model, video) | {"grid": grid, "layout": layout}
    check_model(values, rules(values))
    return AnyResPreprocessor(**values)


def _fields(
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
            "an image processor whose image_grid_pinpoints differ from those of config.json",
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
            ["the same number of pixels for both: the side of a square tile"],
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


def _sampling(settings: Mapping[str, Any], video: Mapping[str, Any]) -> FrameSampling:
    check_like_images(settings, ONEVISION_DEFAULTS, video)
    return sampling_from(video, count=ONEVISION_FRAMES)
