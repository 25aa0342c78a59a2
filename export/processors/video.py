"""Reads what the settings of Hugging Face's video processors have in common.

Where a model folder has no ``video_preprocessor_config.json``, the library reads the video
processor from the file of the image processor, and so is it done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.media.frame_sampling import MAX_FPS, MAX_FRAMES, FrameSampling
from ...runtime.preprocessing.levels import is_number
from .settings import edges, levels_from

_SHARED = (
    "do_resize",
    "size",
    "resample",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)


def check_like_images(
    settings: Mapping[str, Any], defaults: Mapping[str, Any], video: Mapping[str, Any]
) -> None:
    """Refuse a video processor that does to a frame what is not done to an image.

    Args:
        settings: Of the image processor, with its defaults filled in.
        defaults: Of the video processor; those of the image processor are the same.
        video: The contents of a ``video_preprocessor_config.json``.

    Raises:
        ModelNotSupported: Size, filter, scale, mean or deviation differ.
    """
    found = {key: video.get(key, defaults[key]) for key in _SHARED}
    sizes = [edges("size", each["size"], square=True) for each in (found, settings)]
    if (
        not found["do_resize"]
        or sizes[0] != sizes[1]
        or levels_from(found) != levels_from(settings)
    ):
        raise ModelNotSupported(
            "a video processor that resizes or normalizes differently from the image processor",
            ["the same settings in both"],
        )


def sampling_from(
    video: Mapping[str, Any],
    *,
    count: int | None = None,
    fps: float | None = None,
    rule: str = "start",
    group: int = 1,
    least: int = 1,
    most: int = MAX_FRAMES,
) -> FrameSampling:
    """Which frames are taken.

    Args:
        video: The contents of a ``video_preprocessor_config.json``.
        count: Frames that are taken where it names neither a number nor frames per second.
        fps: Frames per second, alike.
        rule: As the rest, a field of ``FrameSampling``.
        group: See ``FrameSampling``.
        least: See ``FrameSampling``.
        most: See ``FrameSampling``; never more than ``MAX_FRAMES`` are taken.

    Raises:
        ModelNotSupported: Numbers out of range.
    """
    if video.get("num_frames") is not None:
        count, fps = video["num_frames"], None
    elif video.get("fps") is not None:
        count, fps = None, video["fps"]
    counts = [least, most, *([] if count is None else [count])]
    whole = all(type(number) is int and number >= 1 for number in counts)
    if not whole or (fps is not None and not (is_number(fps) and 0 < fps <= MAX_FPS)):
        raise ModelNotSupported(
            f"a video processor with num_frames {count!r}, fps {fps!r}, min_frames {least!r} and "
            f"max_frames {most!r}",
            [f"whole numbers above 0, and fps above 0 and up to {MAX_FPS}"],
        )
    if count is not None and count > MAX_FRAMES:
        raise ModelNotSupported(f"num_frames {count} of the video processor", [f"1..{MAX_FRAMES}"])
    most = min(most, MAX_FRAMES)
    return FrameSampling(
        count=count,
        fps=None if fps is None else float(fps),
        rule=rule,
        group=group,
        least=min(least, most),
        most=most,
    )
