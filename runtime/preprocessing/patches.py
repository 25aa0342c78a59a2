"""Flattened patches in the number that the image's size asks for, as Qwen2-VL and Qwen2.5-VL do.

Sources, in ``transformers``: ``models/qwen2_vl/image_processing_pil_qwen2_vl.py`` and
``video_processing_qwen2_vl.py``; ``get_rope_index`` of both models; ``get_vision_position_ids`` and
``get_vision_window_index`` in ``vision_utils.py``.
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
from ..media.growth import MAX_SIDE, check_video
from ..media.images import rgb_on_white
from . import checks
from .base import Largest, Medium, Preprocessor, check_frames
from .levels import MAX_NUMBER, level_table, write_levels

MAX_RATIO = 200
"""Longest edge of an image over its shortest, at most; the library's."""

UNKNOWN_FPS = 24.0
"""Frames per second that the library takes a video to have that does not say it."""


def rules(values: Mapping[str, Any]) -> tuple[checks.Rule, ...]:
    """What the fields of a ``PatchPreprocessor`` may be."""

    def pixels(field: str) -> checks.Rule:
        return (
            field,
            lambda value: checks.is_whole(value, 1, MAX_SIDE**2),
            f"a whole number of pixels in 1..{MAX_SIDE**2}",
        )

    def below(field: str, most: str) -> checks.Rule:
        return field, lambda value: value <= values[most], f"no more than {most} ({values[most]})"

    return (
        checks.whole("patch", 1, 256, "of pixels "),
        checks.whole("merge", 1, 16, "of patches "),
        checks.whole("group", 1, 16, "of frames "),
        *map(pixels, ("min_pixels", "max_pixels", "video_min_pixels", "video_max_pixels")),
        below("min_pixels", "max_pixels"),
        below("video_min_pixels", "video_max_pixels"),
        (
            "video_tokens",
            lambda value: value is None or checks.is_whole(value, 1, 2**31),
            "a whole number of tokens above 0, or null",
        ),
        (
            "window",
            lambda value: value is None or checks.is_whole(value, 1, 1024),
            "a whole number of tokens in 1..1024, or null",
        ),
        (
            "tokens_per_second",
            lambda value: value is None or checks.is_positive(value),
            f"a number above 0 and up to {MAX_NUMBER:g}, or null",
        ),
        *checks.LEVELS,
        checks.SAMPLING,
    )


PATCH_POSITIONS, WINDOWS = "patch_positions", "windows"
"""Inputs of the vision graph beside the pixels."""


@dataclass(frozen=True, kw_only=True)
class PatchPreprocessor(Preprocessor):
    """The image at nearly its own size, as patches; ``merge`` x ``merge`` of them make a token.

    ``pixels`` are ``(frames, tokens, merge * merge, 3 * group * patch * patch)``: the patches of a
    token stand together. The vision graph gets ``patch_positions`` ``(tokens, merge * merge, 2)``
    int64, the row and column of each patch of a frame, and where ``window`` is given ``windows``
    ``(tokens,)`` int64, the window within which the patches of each token attend.

    Raises:
        ManifestInvalid: A field has a wrong type or value.
    """

    kind: ClassVar[str] = "patches"

    patch: int
    """Rows and columns of a patch, in pixels."""
    merge: int
    """Rows and columns of the patches that make one token."""
    group: int
    """Frames of a video that make one; an image stands for as many."""
    min_pixels: int
    """Pixels that an image is enlarged to at least."""
    max_pixels: int
    """Pixels that an image is shrunken to at most."""
    video_min_pixels: int
    """Pixels that a frame of a video is enlarged to at least."""
    video_max_pixels: int
    """Pixels that a frame of a video is shrunken to at most."""
    video_tokens: int | None
    """Tokens, of which nine tenths are shared by a video's frames as their pixels; None: any."""
    window: int | None
    """Rows and columns of the tokens of a window of the vision tower; None: it has no windows."""
    tokens_per_second: float | None
    """Positions that one second of a video spans; None: one for each ``group`` of frames."""
    resample: str
    """Pillow filter of the resize."""
    rescale: float
    """Factor on the 0..255 values."""
    mean: tuple[float, float, float]
    """Subtracted after rescaling (red, green, blue)."""
    std: tuple[float, float, float]
    """Divisor after subtracting (red, green, blue)."""
    sampling: FrameSampling | None = None
    """Which frames of a video the model takes; None: it takes no video."""

    def __post_init__(self) -> None:
        checks.check_manifest(vars(self), rules(vars(self)))

    @classmethod
    def from_dict(cls, data: object, where: str = "manifest.preprocessing") -> PatchPreprocessor:
        """See ``Preprocessor``."""
        return strict.read(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """See ``Preprocessor``."""
        written: dict[str, Any] = strict.write(self)
        return written

    def __call__(self, image: Image.Image, of: int = 1) -> Medium:
        """See ``Preprocessor``; an image is one frame, however many the prompt has."""
        return self._medium([image], self.min_pixels, self.max_pixels, "image", 1.0)

    def video(self, frames: Sequence[Image.Image], fps: float | None = None) -> Medium:
        """See ``Preprocessor``; a last frame without a partner stands for both."""
        if self.sampling is None:
            raise VideoNotSupported()
        check_frames(frames)
        most = self.video_max_pixels
        if self.video_tokens is not None:
            budget = int(self.video_tokens * (self.patch * self.merge) ** 2 * 0.9)
            most = min(most, budget * self.group // len(frames))
            most = max(most, int(self.video_min_pixels * 1.05))
        step = 1.0
        if self.tokens_per_second is not None:
            # The library's numbers are float32 tensors.
            seconds = np.float32(self.group / (fps or UNKNOWN_FPS))
            step = float(np.float32(self.tokens_per_second) * seconds)
        return self._medium(frames, self.video_min_pixels, most, "video", step)

    def largest(self, tokens: int, frames: int = 0) -> Largest:
        """See ``Preprocessor``."""
        groups = math.ceil(frames / self.group) if frames else 1
        return Largest(groups, groups * tokens)

    def _medium(
        self, frames: Sequence[Image.Image], least: int, most: int, kind: str, step: float
    ) -> Medium:
        """``step`` is what the position in time grows by from one group of frames to the next."""
        width, height = frames[0].size
        rows, columns = self._size(height, width, least, most)
        if kind == "video":
            check_video(len(frames), rows, columns)
        pixels = self._patches(frames, rows, columns)
        unit = self.patch * self.merge
        grid = (rows // unit, columns // unit)
        count = len(pixels) * grid[0] * grid[1]
        inputs = {PATCH_POSITIONS: self._positions(grid)}
        if self.window is not None:
            inputs[WINDOWS] = self._windows(grid, self.window)
        return Medium(
            pixels=pixels,
            grid=grid,
            order=np.arange(count, dtype=np.int64),
            offsets=_offsets(len(pixels), grid, step),
            span=max(grid),
            boxes=np.array([(0.0, 0.0, width, height)] * len(pixels), np.float64),
            kind=kind,
            inputs=inputs,
        )

    def _size(self, height: int, width: int, least: int, most: int) -> tuple[int, int]:
        """Height and width that the image is resized to (``smart_resize``)."""
        if max(height, width) > MAX_RATIO * min(height, width):
            raise ImageUnreadable(
                f"the image ({width} x {height} pixels)",
                f"it is too narrow: the model accepts images whose longer edge is at most "
                f"{MAX_RATIO} times the other; crop it closer to a square",
            )
        unit = self.patch * self.merge
        rows, columns = round(height / unit) * unit, round(width / unit) * unit
        if rows * columns > most:
            shrink = math.sqrt(height * width / most)
            rows = max(unit, math.floor(height / shrink / unit) * unit)
            columns = max(unit, math.floor(width / shrink / unit) * unit)
        elif rows * columns < least:
            grow = math.sqrt(least / (height * width))
            rows = math.ceil(height * grow / unit) * unit
            columns = math.ceil(width * grow / unit) * unit
        return rows, columns

    def _patches(self, frames: Sequence[Image.Image], rows: int, columns: int) -> np.ndarray:
        """``pixels``, of which a group of frames makes one."""
        merge, patch = self.merge, self.patch
        down, across = rows // (patch * merge), columns // (patch * merge)
        groups = math.ceil(len(frames) / self.group)
        shape = (groups, down, across, merge, merge, 3, self.group, patch, patch)
        out = np.empty(shape, np.float32)
        table = level_table(self.rescale, self.mean, self.std)
        levels = np.empty((3, rows, columns), np.float32)
        for number in range(groups * self.group):
            if number < len(frames):
                seen = rgb_on_white(frames[number])
                filter_ = Image.Resampling[self.resample.upper()]
                write_levels(levels, seen.resize((columns, rows), filter_), table)
            cut = levels.reshape(3, down, merge, patch, across, merge, patch)
            group, place = divmod(number, self.group)
            out[group, :, :, :, :, :, place] = cut.transpose(1, 4, 2, 5, 0, 3, 6)
        return out.reshape(groups, down * across, merge**2, -1)

    def _positions(self, grid: tuple[int, int]) -> np.ndarray:
        """``(tokens, merge * merge, 2)`` int64: row and column of each patch of a frame."""
        rows, columns = np.indices((grid[0] * self.merge, grid[1] * self.merge), np.int64)
        blocks = (grid[0], self.merge, grid[1], self.merge)
        cut = [axis.reshape(blocks).transpose(0, 2, 1, 3) for axis in (rows, columns)]
        return np.stack(cut, -1).reshape(grid[0] * grid[1], self.merge**2, 2)

    def _windows(self, grid: tuple[int, int], window: int) -> np.ndarray:
        """``(tokens,)`` int64: number of the window of each token, counted by rows of windows."""
        rows, columns = np.indices(grid, np.int64) // window
        numbers: np.ndarray = (rows * math.ceil(grid[1] / window) + columns).reshape(-1)
        return numbers


def _offsets(groups: int, grid: tuple[int, int], step: float) -> np.ndarray:
    """``(3, groups * rows * columns)`` int64: time, row and column of each token."""
    time, row, column = np.indices((groups, *grid), np.int64).reshape(3, -1)
    return np.stack([(time.astype(np.float32) * np.float32(step)).astype(np.int64), row, column])
