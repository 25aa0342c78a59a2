"""What a user asks about: images and videos, read and preprocessed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from ...errors import VideoNotSupported
from ..bundle.prompt import Pieces, PromptLayout
from ..media.images import load_image
from ..media.video import Frames, VideoSource, read_frames
from ..preprocessing import Medium, Preprocessor
from ..preprocessing.base import in_line

IMAGE, VIDEO = "image", "video"


@dataclass(frozen=True, eq=False)
class Video:
    """A video to ask about.

    Of a file the model's own number of frames is taken, spread evenly, unless told otherwise; of a
    list of images all.
    """

    source: VideoSource
    """A path, the bytes of a file, a binary file object, a sequence of images, or a uint8 array
    ``(frames, height, width, 3)``."""
    frames: int | None = None
    """Frames to take of a file."""
    fps: float | None = None
    """Instead: frames to take of each of its seconds."""


Read = Image.Image | Frames


def read_media(source: Any, preprocessor: Preprocessor, max_pixels: int) -> list[Read]:
    """Read images and videos from wherever they are.

    Args:
        source: an image source, a ``Video``, a sequence of both, or None.
        preprocessor: knows which frames of a video the model takes.
        max_pixels: most pixels of an image or frame.

    Raises:
        ImageError, VideoNotSupported, MissingPackage: as for ``load_image``, ``read_frames``.
    """
    if source is None:
        return []
    if not isinstance(source, Sequence) or isinstance(source, str | bytes):
        source = [source]
    return [_read(one, preprocessor, max_pixels) for one in source]


def _read(one: Any, preprocessor: Preprocessor, max_pixels: int) -> Read:
    if not isinstance(one, Video):
        return load_image(one, max_pixels=max_pixels)
    sampling = preprocessor.sampling
    if sampling is None:
        raise VideoNotSupported()
    if one.frames is not None or one.fps is not None:
        sampling = replace(sampling, count=one.frames, fps=one.fps)
    return read_frames(one.source, sampling, max_pixels=max_pixels)


def kinds_of(read: Sequence[Read]) -> list[str]:
    """``image`` or ``video`` for each."""
    return [VIDEO if isinstance(one, Frames) else IMAGE for one in read]


def preprocess(read: Sequence[Read], preprocessor: Preprocessor) -> list[Medium]:
    """Images and videos, ready for the vision graph."""
    images = kinds_of(read).count(IMAGE)
    return [
        preprocessor.video(one.images, one.fps)
        if isinstance(one, Frames)
        else preprocessor(one, images)
        for one in read
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Media:
    """Images and videos of a turn, ready for the vision graph."""

    kinds: tuple[str, ...]
    """``image`` or ``video`` for each."""
    pieces: Pieces
    """What they are cut into, as ``PromptLayout.expand`` takes it."""
    placed: tuple[Medium, ...]
    """The medium that stands at each placeholder of the prompt."""


def prepare(read: Sequence[Read], preprocessor: Preprocessor, layout: PromptLayout) -> Media:
    """Preprocess images and videos, as from ``read_media``."""
    return laid_out(preprocess(read, preprocessor), layout)


def laid_out(media: Sequence[Medium], layout: PromptLayout) -> Media:
    """Preprocessed images and videos, as a prompt of this layout takes them."""
    images = [medium for medium in media if medium.kind == IMAGE]
    videos = [medium for medium in media if medium.kind == VIDEO]
    return Media(
        kinds=tuple(medium.kind for medium in media),
        pieces=Pieces(
            frames=tuple(len(video.pixels) for video in videos),
            tiles=tuple(image.cells for image in images),
        ),
        placed=tuple(part for medium in media for part in parts_of(medium, layout)),
    )


def parts_of(medium: Medium, layout: PromptLayout) -> list[Medium]:
    """What stands at a placeholder of its own: each tile or frame, where there is text between
    them; else the whole."""
    if medium.kind == VIDEO:
        apart = layout.video is not None and layout.video.frame is not None
    else:
        apart = layout.tiles is not None
    return _tile_by_tile(medium) if apart else [medium]


def _tile_by_tile(medium: Medium) -> list[Medium]:
    numbers = np.arange(medium.tile_tokens, dtype=np.int64)
    return [
        Medium(
            pixels=medium.pixels[tile : tile + 1],
            grid=medium.grid,
            order=numbers,
            offsets=in_line(len(numbers)),
            span=len(numbers),
            boxes=medium.boxes[tile : tile + 1],
            kind=medium.kind,
        )
        for tile in range(len(medium.pixels))
    ]
