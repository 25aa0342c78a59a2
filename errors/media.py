"""Images and videos that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable

from .base import VtpError


class ImageError(VtpError):
    """Something about an input image or video."""


class ImageUnreadable(ImageError, ValueError):
    """Not an image, or a damaged one."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be read as an image: {reason}")


class ImageTypeNotAllowed(ImageError, ValueError):
    """An image format that is not on the list."""

    def __init__(self, source: str, found: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f"{source} is of type {found}, which is not allowed; allowed: {', '.join(allowed)}"
        )


class ImageTooLarge(ImageError, ValueError):
    """More pixels than the limit, found out before decoding."""

    def __init__(self, source: str, width: int, height: int, limit: int) -> None:
        super().__init__(
            f"{source} has {width} x {height} = {width * height:,} pixels, more than the limit of "
            f"{limit:,}: scale it down, or raise the limit (max_pixels, --max-pixels)"
        )


class VideoUnreadable(ImageError, ValueError):
    """Not a video, a damaged one, or one without frames."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f"{source} cannot be read as a video: {reason}")


class VideoNotSupported(ImageError, ValueError):
    """A video for a model that takes images only."""

    def __init__(self) -> None:
        super().__init__(
            "this model does not support videos: give images, or export a model that does"
        )
