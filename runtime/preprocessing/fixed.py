"""One input of a fixed size for each image, equal to Hugging Face's CLIP image processor.

That is its variant on Pillow. Source: ``transformers/models/clip/image_processing_pil_clip.py``
and ``image_transforms.py``; ``pad_to_square`` is that of ``image_processing_pil_llava.py``
(LLaVA's ``expand2square``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from PIL import Image

from ...errors import VideoNotSupported
from ..files import strict
from ..media.frame_sampling import FrameSampling
from ..media.growth import check_growth, check_video
from ..media.images import rgb_on_white
from . import checks
from .base import Box, Largest, Medium, Preprocessor, check_frames, tile_after_tile
from .levels import level_table, write_levels

RESIZES = ("shortest_edge", "exact", "none")


class _Geometry(NamedTuple):
    """Where things lie on the way from the image to the crop, in pixels."""

    padded: tuple[int, int]  # (width, height) after padding to a square
    offset: tuple[int, int]  # left and top of the image in the padded one
    resized: tuple[int, int]  # (width, height)
    corner: tuple[int, int]  # left and top of the crop in the resized one; negative where padded


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessor(Preprocessor):
    """One tile for each image or frame; the manifest stores these fields.

    Order: pad to a square, resize, crop in the middle, rescale, normalise.

    Raises:
        ManifestInvalid: A field has a wrong type or value.
    """

    kind: ClassVar[str] = "fixed"

    height: int
    """Rows of the model's input, in pixels."""
    width: int
    """Columns of the model's input, in pixels."""
    resize: Literal["shortest_edge", "exact", "none"]
    """Keep the aspect ratio and give the shorter edge a length, give both edges, or neither."""
    resize_to: int | tuple[int, int] | None
    """Pixels of the shortest edge; ``(height, width)`` if exact; None if none."""
    resample: Literal["bicubic", "bilinear", "lanczos", "nearest"]
    """Pillow filter of the resize."""
    crop: bool
    """Cut ``height`` x ``width`` out of the middle; smaller images get black borders."""
    pad_to_square: tuple[int, int, int] | None = None
    """Colour (red, green, blue; 0..255) of the borders that make the image square first."""
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
    video_cls: bool = False
    """The tokens of a frame have the tower's [CLS] before them, and are one more than the grid."""
    image_cls: bool = False
    """So have those of an image."""

    def __post_init__(self) -> None:
        checks.check_manifest(vars(self), rules(vars(self)))

    @classmethod
    def from_dict(cls, data: object, where: str = "manifest.preprocessing") -> ImagePreprocessor:
        """See ``Preprocessor``."""
        return strict.read(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """See ``Preprocessor``."""
        written: dict[str, Any] = strict.write(self)
        return written

    def __call__(self, image: Image.Image, of: int = 1) -> Medium:
        """See ``Preprocessor``; every image is one tile, however many the prompt has."""
        box = self.view_box(*image.size)
        return tile_after_tile(self.pixels([image]), self.grid, [box], extra=int(self.image_cls))

    def video(self, frames: Sequence[Image.Image], fps: float | None = None) -> Medium:
        """See ``Preprocessor``; every frame is one tile."""
        if self.sampling is None:
            raise VideoNotSupported()
        check_frames(frames)
        check_video(len(frames), self.height, self.width)
        return tile_after_tile(
            self.pixels(frames),
            self.grid,
            [self.view_box(*frame.size) for frame in frames],
            extra=int(self.video_cls),
            kind="video",
        )

    def largest(self, tokens: int, frames: int = 0) -> Largest:
        """See ``Preprocessor``."""
        if not frames:
            return Largest(1, tokens + int(self.image_cls), int(self.image_cls))
        led = frames * int(self.video_cls)
        return Largest(frames, frames * tokens + led, led)

    def pixels(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Preprocess images of any size.

        Args:
            images: As ``load_image`` returns them. Images with transparency are laid on white,
                other modes converted to RGB, as the Hugging Face processor does.

        Returns:
            ``(images, 3, height, width)`` float32, contiguous, channels red, green, blue.

        Raises:
            ImageUnreadable: An image so narrow that resizing it would need absurdly much memory.
        """
        pixels = np.empty((len(images), 3, self.height, self.width), np.float32)
        table = level_table(self.rescale, self.mean, self.std)
        for number, image in enumerate(images):
            write_levels(pixels[number], self._view(image, number), table)
        return pixels

    def view_box(self, width: int, height: int) -> Box:
        """The region of an image that the model sees, after resize and crop.

        Args:
            width: Of the original image, in pixels.
            height: Of the original image, in pixels.

        Returns:
            ``(left, top, right, bottom)`` in the original image's pixels; beyond its edges where
            it was padded.
        """
        layout = self._geometry(width, height)
        spans = []
        for axis, length in enumerate((self.width, self.height)):
            scale = layout.padded[axis] / layout.resized[axis]
            start = layout.corner[axis] * scale - layout.offset[axis]
            spans.append((start, start + length * scale))
        (left, right), (top, bottom) = spans
        return left, top, right, bottom

    def _geometry(self, width: int, height: int) -> _Geometry:
        padded = (max(width, height),) * 2 if self.pad_to_square else (width, height)
        resized = padded
        if isinstance(self.resize_to, tuple):
            resized = self.resize_to[::-1]
        elif self.resize_to is not None:
            # The long edge is rounded down, as in get_resize_output_image_size.
            short, long = min(padded), max(padded)
            long = int(self.resize_to * long / short)
            resized = (self.resize_to, long) if padded[0] <= padded[1] else (long, self.resize_to)
        return _Geometry(
            padded,
            ((padded[0] - width) // 2, (padded[1] - height) // 2),
            resized,
            # Rounds down also where negative: the odd row of a border comes first.
            ((resized[0] - self.width) // 2, (resized[1] - self.height) // 2),
        )

    def _view(self, image: Image.Image, number: int) -> Image.Image:
        """What the model sees of an image: RGB, ``height`` x ``width``."""
        layout = self._geometry(*image.size)
        for size in (layout.padded, layout.resized):
            check_growth(image.size, size, f"image {number}")
        image = rgb_on_white(image)
        if self.pad_to_square and layout.padded != image.size:
            square = Image.new("RGB", layout.padded, self.pad_to_square)
            square.paste(image, layout.offset)
            image = square
        if self.resize != "none":
            image = image.resize(layout.resized, Image.Resampling[self.resample.upper()])
        left, top = layout.corner
        return image.crop((left, top, left + self.width, top + self.height))


def rules(values: Mapping[str, Any]) -> tuple[checks.Rule, ...]:
    """What the fields of an ``ImagePreprocessor`` may be; what ``resize_to`` may, tells resize."""
    target = {
        "shortest_edge": (checks.is_side, checks.PIXELS),
        "exact": (
            lambda value: checks.are(value, 2, checks.is_side),
            f"[height, width], each {checks.PIXELS}",
        ),
    }.get(str(values["resize"]), (lambda value: value is None, "null, as nothing is resized"))
    exact = values["resize_to"] == (values["height"], values["width"])
    return (
        ("height", checks.is_side, checks.PIXELS),
        ("width", checks.is_side, checks.PIXELS),
        checks.among("resize", RESIZES),
        ("resize_to", *target),
        ("crop", lambda value: isinstance(value, bool), "true or false"),
        ("crop", lambda value: value or exact, "true, or resize exact, to [height, width]"),
        checks.COLOUR,
        *checks.LEVELS,
        checks.GRID,
        checks.SAMPLING,
        ("video_cls", lambda value: isinstance(value, bool), "true or false"),
        ("image_cls", lambda value: isinstance(value, bool), "true or false"),
    )
