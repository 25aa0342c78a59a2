"""Reads what the settings of Hugging Face's video processors have in common.

Where a model folder has no ``video_preprocessor_config.json``, the library reads the video
processor from the file of the image processor, and so is it done here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from .hf_image_config import edges, levels_from
from .sampling import MAX_FRAMES, Sampling

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
            "a video processor that resizes or normalizes otherwise than that of images",
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
) -> Sampling:
    """Which frames are taken.

    Args:
        video: The contents of a ``video_preprocessor_config.json``.
        count: Frames that are taken where it names neither a number nor frames per second.
        fps: Frames per second, alike.
        rule: As the rest, a field of ``Sampling``.
        group: See ``Sampling``.
        least: See ``Sampling``.
        most: See ``Sampling``.

    Raises:
        ModelNotSupported: Numbers out of range.
    """
    if video.get("num_frames") is not None:
        count, fps = video["num_frames"], None
    elif video.get("fps") is not None:
        count, fps = None, video["fps"]
    numbers = [number for number in (count, fps, least, most) if number is not None]
    if not all(type(number) in (int, float) and 0 < number <= 10_000 for number in numbers):
        raise ModelNotSupported(
            f"a video processor with num_frames {count!r}, fps {fps!r}, min_frames {least!r} and "
            f"max_frames {most!r}",
            ["numbers above 0"],
        )
    most = min(most, MAX_FRAMES)
    return Sampling(
        count=None if count is None else min(count, most),
        fps=None if fps is None else min(float(fps), 1000.0),
        rule=rule,
        group=group,
        least=min(least, most),
        most=most,
    )
