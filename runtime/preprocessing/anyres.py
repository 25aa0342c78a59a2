"""An overview tile and a mosaic of tiles, as LLaVA-NeXT and LLaVA-OneVision see an image.

Sources: the processors on Pillow, ``models/llava_next/image_processing_pil_llava_next.py`` and
``models/llava_onevision/image_processing_pil_llava_onevision.py`` in ``transformers``, and
``pack_image_features`` of the models. The layout ``spatial`` is that of FasterVLM's published code
(``llava/model/llava_arch.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ...errors import ImageUnreadable, VideoNotSupported
from ..files import strict
from ..media.frame_sampling import FrameSampling
from ..media.growth import MAX_TILES, check_growth, check_video
from ..media.images import rgb_on_white
from . import checks, mosaic
from .base import (
    Box,
    Largest,
    Medium,
    Preprocessor,
    Resample,
    check_frames,
    in_line,
    tile_after_tile,
)
from .levels import level_table, write_levels

MAX_PINPOINTS = 1024

LAYOUTS = ("unpad", "spatial")


def rules(values: Mapping[str, Any]) -> tuple[checks.Rule, ...]:
    """What the fields of an ``AnyResPreprocessor`` may be."""
    side = values["side"]

    def pinpoints(value: object) -> bool:
        if not isinstance(value, tuple) or not 1 <= len(value) <= MAX_PINPOINTS:
            return False
        return all(checks.are(point, 2, checks.is_side) for point in value)

    def tiled(value: tuple[tuple[int, int], ...]) -> bool:
        return all(
            height % side == width % side == 0 and height * width <= MAX_TILES * side**2
            for height, width in value
        )

    return (
        ("side", checks.is_side, checks.PIXELS),
        (
            "pinpoints",
            pinpoints,
            f"1..{MAX_PINPOINTS} pairs [height, width], each {checks.PIXELS}",
        ),
        ("pinpoints", tiled, f"multiples of side ({side}), of at most {MAX_TILES} tiles"),
        (
            "most",
            lambda value: value is None or checks.is_whole(value, 1, MAX_TILES),
            f"a whole number of tiles in 1..{MAX_TILES}, or null",
        ),
        checks.among("layout", LAYOUTS),
        checks.COLOUR,
        *checks.LEVELS,
        checks.GRID,
        checks.SAMPLING,
    )


@dataclass(frozen=True, kw_only=True)
class AnyResPreprocessor(Preprocessor):
    """The image squeezed into one square tile, then cut into tiles with its aspect ratio kept.

    Raises:
        ManifestInvalid: A field has a wrong type or value.
    """

    kind: ClassVar[str] = "anyres"

    side: int
    """Rows and columns of a tile, in pixels."""
    pinpoints: tuple[tuple[int, int], ...]
    """``(height, width)`` of the mosaics that an image may be fitted into, in pixels; each a
    multiple of ``side``."""
    resample: str
    """Pillow filter of the resize."""
    rescale: float
    """Factor on the 0..255 values."""
    mean: tuple[float, float, float]
    """Subtracted after rescaling (red, green, blue)."""
    std: tuple[float, float, float]
    """Divisor after subtracting (red, green, blue)."""
    grid: tuple[int, int]
    """Rows and columns of the image tokens of one tile."""
    most: int | None = None
    """Tiles' worth of tokens above which the mosaic's are shrunken to fewer; None: never."""
    pad_to_square: tuple[int, int, int] | None = None
    """Of several images in a prompt each is one tile, made square with borders of this colour
    (red, green, blue; 0..255); None: they are cut as a single one is."""
    layout: str = "unpad"
    """Order of the mosaic's tokens: by its rows, either without the bars beside the image and with
    a separator after each row (``unpad``), or all of them and nothing else (``spatial``)."""
    sampling: FrameSampling | None = None
    """Which frames of a video the model takes; None: it takes no video."""

    def __post_init__(self) -> None:
        checks.check_manifest(vars(self), rules(vars(self)))

    @property
    def shrinks(self) -> bool:
        """See ``Preprocessor``."""
        return self.most is not None

    @classmethod
    def from_dict(cls, data: object, where: str = "manifest.preprocessing") -> AnyResPreprocessor:
        """See ``Preprocessor``."""
        return strict.read(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """See ``Preprocessor``."""
        written: dict[str, Any] = strict.write(self)
        return written

    def __call__(self, image: Image.Image, of: int = 1) -> Medium:
        """See ``Preprocessor``."""
        if of > 1 and self.pad_to_square is not None:
            return self._padded(image, self.pad_to_square)
        size = (image.height, image.width)
        target = mosaic.best_resolution(size, self.pinpoints)
        if target is None:
            raise ImageUnreadable(
                f"the image ({image.width} x {image.height} pixels)",
                "it is too narrow, and would be less than a pixel wide for the model; "
                "crop it closer to a square",
            )
        rows, columns = target[0] // self.side, target[1] // self.side
        pixels = self._empty(1 + rows * columns)
        boxes = self._cut(rgb_on_white(image), target, pixels)
        native, order, resample = self._order(size, (rows, columns))
        return Medium(
            pixels=pixels,
            grid=self.grid,
            order=order,
            offsets=in_line(len(order)),
            span=len(order),
            boxes=np.array(boxes, np.float64),
            resample=resample,
            native=native,
        )

    def video(self, frames: Sequence[Image.Image], fps: float | None = None) -> Medium:
        """See ``Preprocessor``; every frame is one tile, whose tokens are pooled two by two."""
        if self.sampling is None:
            raise VideoNotSupported()
        check_frames(frames)
        check_video(len(frames), self.side, self.side)
        pixels = self._empty(len(frames))
        for number, frame in enumerate(frames):
            self._squeeze(rgb_on_white(frame), pixels[number])
        boxes = [(0.0, 0.0, float(frame.width), float(frame.height)) for frame in frames]
        return tile_after_tile(pixels, self._pooled, boxes, separator=True, kind="video")

    def largest(self, tokens: int, frames: int = 0) -> Largest:
        """See ``Preprocessor``; mosaics count as large as they are once they are shrunken."""
        if frames:
            pooled = math.prod(self._pooled)
            return Largest(frames, frames * pooled + 1, 1)
        found = []
        for height, width in self.pinpoints:
            rows, columns = height // self.side, width // self.side
            separators = rows * self.grid[0] if self.layout == "unpad" else 0
            mosaic_tiles = rows * columns if self.most is None else min(rows * columns, self.most)
            found.append((1 + rows * columns, (1 + mosaic_tiles) * tokens + separators, separators))
        return Largest(*(max(numbers) for numbers in zip(*found, strict=True)))

    @property
    def _pooled(self) -> tuple[int, int]:
        """Rows and columns of the tokens of a frame."""
        return math.ceil(self.grid[0] / 2), math.ceil(self.grid[1] / 2)

    def _empty(self, tiles: int) -> np.ndarray:
        return np.empty((tiles, 3, self.side, self.side), np.float32)

    def _squeeze(self, image: Image.Image, out: np.ndarray) -> None:
        seen = image.resize((self.side, self.side), Image.Resampling[self.resample.upper()])
        write_levels(out, seen, level_table(self.rescale, self.mean, self.std))

    def _padded(self, image: Image.Image, colour: tuple[int, int, int]) -> Medium:
        edge = max(image.size)
        check_growth(image.size, (edge, edge), "the image")
        left, top = ((edge - length) // 2 for length in image.size)
        square = Image.new("RGB", (edge, edge), colour)
        square.paste(rgb_on_white(image), (left, top))
        pixels = self._empty(1)
        self._squeeze(square, pixels[0])
        box = (float(-left), float(-top), float(edge - left), float(edge - top))
        return tile_after_tile(pixels, self.grid, [box], separator=self.layout == "unpad")

    def _cut(self, image: Image.Image, target: tuple[int, int], pixels: np.ndarray) -> list[Box]:
        """Write the overview and the tiles into ``pixels``; returns what each shows."""
        table = level_table(self.rescale, self.mean, self.std)
        self._squeeze(image, pixels[0])
        height, width = mosaic.fitted((image.height, image.width), target)
        fitted = image.resize((width, height), Image.Resampling[self.resample.upper()])
        left, top = (target[1] - width) // 2, (target[0] - height) // 2
        canvas = Image.new("RGB", (target[1], target[0]))
        canvas.paste(fitted, (left, top))
        across, down = image.width / width, image.height / height
        boxes: list[Box] = [(0.0, 0.0, float(image.width), float(image.height))]
        for y in range(0, target[0], self.side):
            for x in range(0, target[1], self.side):
                tile = canvas.crop((x, y, x + self.side, y + self.side))
                write_levels(pixels[len(boxes)], tile, table)
                boxes.append(
                    (
                        (x - left) * across,
                        (y - top) * down,
                        (x - left + self.side) * across,
                        (y - top + self.side) * down,
                    )
                )
        return boxes

    def _order(
        self, size: tuple[int, int], tiles: tuple[int, int]
    ) -> tuple[np.ndarray | None, np.ndarray, Resample | None]:
        """``native``, ``order`` and ``resample`` of an image of ``size`` in ``tiles`` rows and
        columns."""
        tokens = self.grid[0] * self.grid[1]
        overview = np.arange(tokens, dtype=np.int64)
        numbers = mosaic.token_numbers(tiles, self.grid)
        if self.layout == "spatial":
            return None, np.concatenate([overview, numbers.reshape(-1)]), None
        numbers = mosaic.unpadded(numbers, size)
        native, resample = None, None
        shape = (numbers.shape[0], numbers.shape[1])
        shrunken = mosaic.shrunken_size(shape, self.grid, self.most) if self.most else None
        if shrunken is not None:
            native = np.concatenate([overview, mosaic.with_separators(numbers)])
            resample = mosaic.bilinear(numbers, shrunken)
            first = (1 + tiles[0] * tiles[1]) * tokens
            numbers = first + np.arange(len(resample.index), dtype=np.int64).reshape(shrunken)
        return native, np.concatenate([overview, mosaic.with_separators(numbers)]), resample
