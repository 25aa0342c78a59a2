"""Frames of a video, from a file through PyAV or from images.

Frames are counted and taken as ``read_video_pyav`` in ``transformers/video_utils.py`` does: by
their number in the order in which they are shown, as they are stored (a note in the file to turn
them is not followed). Videos whose header does not say the number of frames, which that function
cannot sample, are decoded once more to count them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ...errors import ImageTooLarge, MissingPackage, VideoUnreadable
from ..files.open_file import label_of, open_file
from .frame_sampling import MAX_FRAMES, FrameSampling
from .growth import MAX_VIDEO_BYTES
from .images import DEFAULT_MAX_PIXELS, ImageSource, load_image

VideoSource = str | os.PathLike[str] | bytes | BinaryIO | Sequence[ImageSource] | np.ndarray

ALLOWED_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,gif"
"""Names of FFmpeg's demuxers that are tried; none of them opens other files or addresses."""

_NAMED = "MP4, MOV, MKV, WebM, AVI, MPEG, FLV, WMV, OGG, GIF"


@dataclass(frozen=True, kw_only=True, eq=False)
class Frames:
    """Frames that were taken of a video."""

    images: tuple[Image.Image, ...]
    """Of mode RGB, in the order in which they are shown."""
    indices: np.ndarray
    """``(frames,)`` int64: which of the video's frames they are."""
    fps: float | None
    """How many were taken for each second of the video; None where it is not known."""


def read_frames(
    source: VideoSource,
    sampling: FrameSampling,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str | None = None,
) -> Frames:
    """Read the frames of a video that a model takes.

    Args:
        source: A path, the bytes of a file, a binary file object (read from its start), or the
            frames themselves: images as ``load_image`` takes them, or a uint8 array
            ``(frames, height, width, 3)``, all of which are taken, as the library does.
        sampling: Which frames of a file are taken.
        max_pixels: Limit on width x height of a frame, held against the header before decoding.
        name: What errors call the video; the path, or "the video", if None.

    Raises:
        MissingPackage: A file is given, and PyAV is not installed.
        VideoUnreadable: No such file, no video, no frames, a damaged or an absurdly large one.
        ImageTooLarge: More than ``max_pixels`` pixels.
        ImageUnreadable: One of the images given cannot be read.
    """
    if isinstance(source, np.ndarray | Sequence) and not isinstance(source, str | bytes):
        return _from_images(source, max_pixels, name or "the video")
    if find_spec("av") is None:
        raise MissingPackage("av", "reading a video file", "video")
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), sampling, max_pixels, name or "the video")
    if isinstance(source, str | os.PathLike):
        label = name or label_of(source)
        with open_file(source, label, "a video", VideoUnreadable) as file:
            return _decode(file, sampling, max_pixels, label)
    if hasattr(source, "read"):
        return _decode(
            source, sampling, max_pixels, name or str(getattr(source, "name", "the video"))
        )
    raise TypeError(
        f"{type(source).__name__} is not a video source: give a path, bytes, a binary file object, "
        "a list of images or a uint8 array"
    )


def _from_images(source: Sequence[ImageSource] | np.ndarray, max_pixels: int, name: str) -> Frames:
    count = len(source)
    if not count:
        raise VideoUnreadable(name, "it has no frames")
    if count > MAX_FRAMES:
        raise VideoUnreadable(name, f"it has {count} frames; give at most {MAX_FRAMES}")
    images = []
    for number, image in enumerate(source):
        images.append(load_image(image, max_pixels=max_pixels, name=f"frame {number} of {name}"))
        _check_memory(count, *images[-1].size, name)
    return Frames(images=tuple(images), indices=np.arange(count, dtype=np.int64), fps=None)


def _decode(file: BinaryIO, sampling: FrameSampling, max_pixels: int, name: str) -> Frames:
    with _opened(file, name) as container:
        stream = container.streams.video[0]
        _check_pixels(stream, max_pixels, name)
        total = int(stream.frames)
        rate = float(stream.average_rate) if stream.average_rate else None
        if not total:
            total = sum(1 for _ in container.decode(video=0))
    indices = sampling.indices(total, rate, name)
    wanted = set(indices.tolist())
    taken: dict[int, Image.Image] = {}
    number = -1
    with _opened(file, name) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                _check_pixels(frame, max_pixels, name)
                _check_memory(len(wanted), frame.width, frame.height, name)
                taken[number] = Image.fromarray(frame.to_ndarray(format="rgb24"))
                if len(taken) == len(wanted):
                    break
    if len(taken) < len(wanted):
        raise VideoUnreadable(
            name, f"it is damaged, or incomplete: it ends after {number + 1} of {total} frames"
        )
    return Frames(
        images=tuple(taken[index] for index in indices.tolist()),
        indices=indices,
        fps=None if rate is None else len(indices) / total * rate,
    )


@contextmanager
def _opened(file: BinaryIO, name: str) -> Iterator[Any]:
    """The container in a file that has a video; what PyAV raises meanwhile is ``VideoUnreadable``.

    The file is handed over open, and no protocol is allowed: a playlist cannot name other files.
    """
    import av

    opened = False
    try:
        file.seek(0)
        options = {"format_whitelist": ALLOWED_CONTAINERS, "protocol_whitelist": "none"}
        with av.open(file, "r", options=options) as container:
            if not container.streams.video:
                raise VideoUnreadable(name, "it has no pictures, only sound or text")
            opened = True
            yield container
    except av.error.InvalidDataError as error:
        problem = "or incomplete" if opened else f"or none of {_NAMED}"
        raise VideoUnreadable(name, f"it is damaged, {problem}") from error
    except av.error.ArgumentError as error:
        raise VideoUnreadable(name, f"it is none of {_NAMED}") from error
    except (av.error.FFmpegError, OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise VideoUnreadable(name, f"it cannot be decoded: {reason}") from error


def _check_pixels(picture: Any, max_pixels: int, name: str) -> None:
    if picture.width * picture.height > max_pixels:
        raise ImageTooLarge(name, picture.width, picture.height, max_pixels)


def _check_memory(frames: int, width: int, height: int, name: str) -> None:
    needed = frames * width * height * 3
    if needed > MAX_VIDEO_BYTES:
        raise VideoUnreadable(
            name,
            f"{frames} frames of {width} x {height} pixels would take {needed / 2**30:.1f} GiB, "
            f"more than {MAX_VIDEO_BYTES // 2**30} GiB; take fewer frames",
        )
