"""Bounds on what a manifest may ask for, and on what an image may grow to."""

from __future__ import annotations

import math

from ...errors import ImageUnreadable, VideoUnreadable
from .images import DEFAULT_MAX_PIXELS

MAX_SIDE = 8192
"""Largest model input or resize target, in pixels, that a manifest may ask for."""

MAX_GRID = 1024
"""Most rows or columns of tokens of one tile."""

MAX_TILES = 144
"""Most tiles that an image is cut into, besides one that shows the whole."""

MAX_VIDEO_BYTES = 4 * 2**30
"""Most bytes of the pixels of a video, as float32."""


def check_growth(size: tuple[int, int], grown: tuple[int, int], name: str) -> None:
    """Refuse an image that resizing or padding would make absurdly large.

    Args:
        size: Width and height of the image, in pixels.
        grown: The width and height that it would get.
        name: What the error calls the image.

    Raises:
        ImageUnreadable: It would take more than four times the pixels that are allowed anyway.
    """
    if math.prod(grown) > 4 * max(DEFAULT_MAX_PIXELS, math.prod(size)):
        raise ImageUnreadable(
            f"{name} ({size[0]} x {size[1]} pixels)",
            f"it is too narrow, and would grow to {grown[0]} x {grown[1]} pixels before the "
            "crop; crop it closer to a square",
        )


def check_video(frames: int, height: int, width: int) -> None:
    """Refuse a video that would take absurdly much memory.

    Args:
        frames: How many there are.
        height: Of a frame as the model sees it, in pixels.
        width: Of a frame as the model sees it, in pixels.

    Raises:
        VideoUnreadable: It would take more than ``MAX_VIDEO_BYTES``.
    """
    needed = frames * height * width * 12
    if needed > MAX_VIDEO_BYTES:
        raise VideoUnreadable(
            "the video",
            f"{frames} frames of {width} x {height} pixels would take {needed / 2**30:.1f} GiB, "
            f"more than {MAX_VIDEO_BYTES // 2**30} GiB; take fewer frames",
        )
