"""Tiles of the image and a thumbnail, as InternVL sees an image.

Source: ``models/got_ocr2/image_processing_pil_got_ocr2.py`` in ``transformers``, and
``models/internvl/processing_internvl.py``, which always has images cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ...errors import VideoNotSupported
from ..files import strict
from ..media.frame_sampling import FrameSampling
from ..media.growth import MAX_SIDE, MAX_TILES, check_video
from ..media.images import rgb_on_white
from . import checks
from .base import Box, Cell, Largest, Medium, Preprocessor, check_frames, tile_after_tile
from .levels import level_table, write_levels


def rules(values: Mapping[str, Any]) -> tuple[checks.Rule, ...]:
    """What the fields of a ``TilePreprocessor`` may be."""
    height, width, most = (values[name] for name in ("height", "width", "most"))
    return (
        ("height", checks.is_side, checks.PIXELS),
        ("width", checks.is_side, checks.PIXELS),
        checks.whole("least", 1, MAX_TILES, "of tiles "),
        checks.whole("most", 1, MAX_TILES, "of tiles "),
        ("least", lambda value: value <= most, f"no more than most ({most})"),
        (
            "most",
            lambda value: value * height * width <= MAX_SIDE**2,
            f"so many tiles of {width} x {height} that they have at most {MAX_SIDE**2} pixels",
        ),
        *checks.LEVELS,
        checks.GRID,
        checks.SAMPLING,
    )


@dataclass(frozen=True, kw_only=True)
class TilePreprocessor(Preprocessor):
    """The image stretched over rows and columns of tiles, with a thumbnail after them.

    Raises:
        ManifestInvalid: A field has a wrong type or value.
    """

    kind: ClassVar[str] = "tiles"

    height: int
    """Rows of a tile, in pixels."""
    width: int
    """Columns of a tile, in pixels."""
    least: int
    """Least tiles, without the thumbnail."""
    most: int
    """Most tiles, without the thumbnail."""
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
    sampling: FrameSampling | None = None
    """Which frames of a video the model takes; None: it takes no video."""

    def __post_init__(self) -> None:
        checks.check_manifest(vars(self), rules(vars(self)))

    @classmethod
    def from_dict(cls, data: object, where: str = "manifest.preprocessing") -> TilePreprocessor:
        """See ``Preprocessor``."""
        return strict.read(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """See ``Preprocessor``."""
        written: dict[str, Any] = strict.write(self)
        return written

    def __call__(self, image: Image.Image, of: int = 1) -> Medium:
        """See ``Preprocessor``; an image is cut alike, however many the prompt has."""
        columns, rows = self._canvas(image.width, image.height)
        count = rows * columns
        seen = rgb_on_white(image)
        canvas = self._resized(seen, columns, rows)
        table = level_table(self.rescale, self.mean, self.std)
        pixels = np.empty((count + (count > 1), 3, self.height, self.width), np.float32)
        boxes: list[Box] = []
        cells: list[Cell | None] = []
        for number in range(count):
            row, column = divmod(number, columns)
            left, top = column * self.width, row * self.height
            tile = canvas.crop((left, top, left + self.width, top + self.height))
            write_levels(pixels[number], tile, table)
            across, down = image.width / columns, image.height / rows
            boxes.append(
                (column * across, row * down, (column + 1) * across, (row + 1) * down),
            )
            cells.append((row, column) if count > 1 else None)
        if count > 1:
            write_levels(pixels[count], self._resized(seen, 1, 1), table)
            boxes.append((0.0, 0.0, float(image.width), float(image.height)))
            cells.append(None)
        return tile_after_tile(pixels, self.grid, boxes, cells=cells)

    def video(self, frames: Sequence[Image.Image], fps: float | None = None) -> Medium:
        """See ``Preprocessor``; every frame is one tile."""
        if self.sampling is None:
            raise VideoNotSupported()
        check_frames(frames)
        check_video(len(frames), self.height, self.width)
        table = level_table(self.rescale, self.mean, self.std)
        pixels = np.empty((len(frames), 3, self.height, self.width), np.float32)
        for number, frame in enumerate(frames):
            write_levels(pixels[number], self._resized(rgb_on_white(frame), 1, 1), table)
        boxes = [(0.0, 0.0, float(frame.width), float(frame.height)) for frame in frames]
        return tile_after_tile(pixels, self.grid, boxes, kind="video")

    def largest(self, tokens: int, frames: int = 0) -> Largest:
        """See ``Preprocessor``."""
        tiles = frames or self.most + (self.most > 1)
        return Largest(tiles, tiles * tokens)

    def _resized(self, image: Image.Image, columns: int, rows: int) -> Image.Image:
        """The image stretched over rows and columns of tiles."""
        size = (columns * self.width, rows * self.height)
        return image.resize(size, Image.Resampling[self.resample.upper()])

    def _canvas(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of tiles: the aspect ratio nearest to the image's.

        Of equally near ones the later, which has more tiles, as long as the image has more than
        half of its pixels (``get_optimal_tiled_canvas``).
        """
        arrangements = sorted(
            (
                (columns, rows)
                for columns in range(1, self.most + 1)
                for rows in range(1, self.most + 1)
                if self.least <= columns * rows <= self.most
            ),
            key=lambda pair: pair[0] * pair[1],
        )
        best, nearest = (1, 1), float("inf")
        for columns, rows in arrangements:
            distance = abs(width / height - columns / rows)
            roomy = width * height > 0.5 * self.height * self.width * columns * rows
            if distance < nearest or (distance == nearest and roomy):
                best, nearest = (columns, rows), distance
        return best
