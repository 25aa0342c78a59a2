"""Reads the settings of the image and video processors of Qwen2-VL and Qwen2.5-VL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.preprocessing.patches import PatchPreprocessor, rules
from .settings import DEFAULTS, check_model, levels_from, settings_from
from .video import sampling_from

TYPES = ("Qwen2VLImageProcessor", "Qwen2VLImageProcessorFast", "Qwen2VLImageProcessorPil")

FPS = 2.0
"""Frames per second that are taken where the configuration names no other number."""

PATCH_DEFAULTS: dict[str, Any] = {
    **{
        key: DEFAULTS[key]
        for key in (
            "do_resize",
            "resample",
            "do_rescale",
            "rescale_factor",
            "do_normalize",
            "image_mean",
            "image_std",
        )
    },
    "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280},
    "patch_size": 14,
    "temporal_patch_size": 2,
    "merge_size": 2,
}
"""Class attributes of ``Qwen2VLImageProcessorPil``."""
VIDEO_DEFAULTS: dict[str, Any] = PATCH_DEFAULTS | {
    "size": {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768},
    "min_frames": 4,
    "max_frames": 768,
    "cap_pixels_per_frame": None,
    "max_video_tokens": 128_000,
}
"""Class attributes of ``Qwen2VLVideoProcessor``."""
VISION_DEFAULTS: dict[str, Any] = {
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
"""Of the vision configuration of both models."""
WINDOWED_DEFAULTS: dict[str, Any] = VISION_DEFAULTS | {"window_size": 112, "tokens_per_second": 4}
"""Of the vision configuration of Qwen2.5-VL."""


def patch_preprocessor(
    config: Mapping[str, Any],
    *,
    model: Mapping[str, Any],
    windowed: bool,
    video: Mapping[str, Any] | None = None,
) -> PatchPreprocessor:
    """Read the configuration of Qwen2-VL's image processor.

    Args:
        config: The contents of ``preprocessor_config.json``.
        model: The contents of ``config.json``.
        windowed: Whether most layers of the tower see windows alone (Qwen2.5-VL).
        video: The contents of ``video_preprocessor_config.json``, where there is one.

    Raises:
        ModelNotSupported: A processor, flag or value that cannot be reproduced here.
    """
    values = _fields(config, model, windowed, video)
    check_model(values, rules(values))
    return PatchPreprocessor(**values)


def _fields(
    config: Mapping[str, Any],
    model: Mapping[str, Any],
    windowed: bool,
    video: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields of a ``PatchPreprocessor``; their ranges are for its own checks.

    Args:
        config: The contents of a ``preprocessor_config.json``.
        model: The contents of a ``config.json``.
        windowed: As there.
        video: The contents of a ``video_preprocessor_config.json``; None: the library takes the
            file of the image processor for it, and so is it done here.

    Raises:
        ModelNotSupported: Another processor, images that are not resized, or processors
            whose patches are not the model's.
    """
    settings = settings_from(config, PATCH_DEFAULTS, TYPES)
    clip = config if video is None else video
    clips = VIDEO_DEFAULTS | {key: clip[key] for key in VIDEO_DEFAULTS if key in clip}
    defaults = WINDOWED_DEFAULTS if windowed else VISION_DEFAULTS
    tower = defaults | dict(model.get("vision_config") or {})
    patches = _patches(settings, clips, tower)
    least, most = _pixels(config, settings)
    video_least, video_most = _pixels(clip, clips)
    capped = bool(clips["cap_pixels_per_frame"])
    return (
        levels_from(settings)
        | patches
        | {
            "min_pixels": least,
            "max_pixels": most,
            "video_min_pixels": video_least,
            "video_max_pixels": video_most,
            "video_tokens": clips["max_video_tokens"] if capped else None,
            "window": _window(tower) if windowed else None,
            "tokens_per_second": tower["tokens_per_second"] if windowed else None,
            "sampling": sampling_from(
                clip,
                fps=FPS,
                rule="groups",
                group=patches["group"],
                least=clips["min_frames"],
                most=clips["max_frames"],
            ),
        }
    )


def _patches(
    settings: Mapping[str, Any], clips: Mapping[str, Any], tower: Mapping[str, Any]
) -> dict[str, Any]:
    """Sizes of patches, which model and processors must agree on, as on levels."""
    found = [
        tuple(each[key] for key in ("patch_size", "merge_size", "temporal_patch_size"))
        for each in (settings, clips)
    ]
    needed = tuple(
        tower[key] for key in ("patch_size", "spatial_merge_size", "temporal_patch_size")
    )
    right = all(
        type(size) is int and 1 <= size <= most
        for size, most in zip(needed, (256, 16, 16), strict=True)
    )
    if not right or any(sizes != needed for sizes in found):
        raise ModelNotSupported(
            f"patch_size, merge_size and temporal_patch_size {found} of the processors with "
            f"{needed} of the model",
            ["the same whole numbers in all, at most 256, 16 and 16"],
        )
    if levels_from(settings) != levels_from(clips):
        raise ModelNotSupported(
            "a video processor that resizes or normalizes differently from the image processor",
            ["the same settings in both"],
        )
    if not settings["do_resize"] or not clips["do_resize"]:
        raise ModelNotSupported("an image processor without do_resize", ["do_resize"])
    return dict(zip(("patch", "merge", "group"), needed, strict=True))


def _pixels(config: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """Least and most pixels: the older names win, as in the library."""
    size = settings["size"] if isinstance(settings["size"], Mapping) else {}
    least, most = (
        size.get(edge) if config.get(older) is None else config[older]
        for edge, older in (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels"))
    )
    if type(least) is not int or type(most) is not int or not 1 <= least <= most:
        raise ModelNotSupported(
            f"size {settings['size']!r} of the processor",
            [
                "{shortest_edge, longest_edge}, the smallest and the largest number of pixels of "
                "an image"
            ],
        )
    return least, most


def _window(tower: Mapping[str, Any]) -> int:
    """Rows and columns of the tokens of a window."""
    size, patch, merge = (tower[key] for key in ("window_size", "patch_size", "spatial_merge_size"))
    if type(size) is not int or size // merge // patch < 1:
        raise ModelNotSupported(f"window_size {size!r}", [f"a multiple of {patch * merge}"])
    window: int = size // merge // patch
    return window
