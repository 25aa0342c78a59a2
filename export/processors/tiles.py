"""Reads the settings of the image and video processors that InternVL has in Hugging Face."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.media.frame_sampling import FrameSampling
from ...runtime.preprocessing.tiles import TilePreprocessor, rules
from .settings import DEFAULTS, check_model, edges, levels_from, settings_from
from .video import check_like_images, sampling_from

TYPES = ("GotOcr2ImageProcessor", "GotOcr2ImageProcessorFast", "GotOcr2ImageProcessorPil")

FRAMES = 8
"""Frames that are taken where the configuration names no other number."""

TILE_DEFAULTS: dict[str, Any] = {
    **{key: DEFAULTS[key] for key in DEFAULTS if key not in ("do_center_crop", "crop_size")},
    "size": {"height": 384, "width": 384},
    "min_patches": 1,
    "max_patches": 12,
}
"""Class attributes of ``GotOcr2ImageProcessorPil``."""


def tile_preprocessor(
    config: Mapping[str, Any],
    grid: tuple[int, int],
    *,
    video: Mapping[str, Any] | None = None,
) -> TilePreprocessor:
    """Read the configuration of InternVL's image processor.

    Args:
        config: The contents of ``preprocessor_config.json``.
        grid: Rows and columns of the image tokens of one tile.
        video: The contents of ``video_preprocessor_config.json``, where there is one.

    Raises:
        ModelNotSupported: A processor, flag or value that cannot be reproduced here.
    """
    values = _fields(config, video) | {"grid": grid}
    check_model(values, rules(values))
    return TilePreprocessor(**values)


def _fields(config: Mapping[str, Any], video: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The fields of a ``TilePreprocessor`` but for ``grid``; ranges are for its own checks.

    Args:
        config: The contents of a ``preprocessor_config.json``.
        video: The contents of a ``video_preprocessor_config.json``.

    Raises:
        ModelNotSupported: Another processor, or tiles that are not of one fixed size.
    """
    settings = settings_from(config, TILE_DEFAULTS, TYPES)
    size = edges("size", settings["size"], square=True)
    if not isinstance(size, tuple) or not settings["do_resize"] or settings["do_pad"]:
        raise ModelNotSupported(
            "an image processor whose tiles are not of one fixed size",
            ["do_resize to a height and width, without do_pad"],
        )
    return levels_from(settings) | {
        "height": size[0],
        "width": size[1],
        "least": settings["min_patches"],
        "most": settings["max_patches"],
        "sampling": _sampling(settings, config if video is None else video),
    }


def _sampling(settings: Mapping[str, Any], video: Mapping[str, Any]) -> FrameSampling:
    check_like_images(settings, TILE_DEFAULTS, video)
    shift = video.get("initial_shift", True)
    if not isinstance(shift, bool) or video.get("do_center_crop"):
        raise ModelNotSupported(
            f"a video processor with initial_shift {shift!r} and "
            f"do_center_crop {video.get('do_center_crop')!r}",
            ["initial_shift true or false, without do_center_crop"],
        )
    # Frames from the start on: the rule of groups, of one frame each.
    return sampling_from(video, count=FRAMES, rule="middle" if shift else "groups")
