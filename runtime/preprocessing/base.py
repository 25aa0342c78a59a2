"""What every preprocessing makes of an image or a video, and what it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from PIL import Image

from ...errors import VideoUnreadable
from ..media.frame_sampling import FrameSampling

SEPARATOR = -1
"""In ``Medium.order``: the row that the model learned as the end of a line or of an image."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom, in pixels of the original image."""

Cell = tuple[int, int]
"""Row and column of a tile, from 0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Resample:
    """Tokens that are weighted means of four others: ``sum_j weight[i, j] * tokens[index[i, j]]``.

    The tokens are those of all tiles of a medium, one tile after the other.
    """

    index: np.ndarray
    """``(rows, 4)`` int64, each ``tile * tokens + token``."""
    weight: np.ndarray
    """``(rows, 4)`` float32; each row adds up to 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Medium:
    """One image or video, ready for the vision graph, and how its tokens stand in the prompt."""

    pixels: np.ndarray
    """``(tiles, 3, height, width)`` float32, or ``(frames, tokens, patches of a token, features)``
    where the vision graph takes flattened patches: then one frame is one run of the tower."""
    grid: tuple[int, int]
    """Rows and columns of the tokens that the vision graph makes of one tile."""
    order: np.ndarray
    """``(n,)`` int64: the tokens as the model reads them, before any is pruned. Each is
    ``tile * tokens + token`` (tokens of a tile by rows), ``SEPARATOR``, or
    ``tiles * tokens + i`` for row ``i`` of ``resample``."""
    offsets: np.ndarray
    """``(axes, n)`` int64: position numbers less that of the medium's first token. One axis, or
    three (time, row, column) where the model's rotary embedding has three."""
    span: int
    """How far the number of the next text token is ahead of that of the medium's first token."""
    boxes: np.ndarray
    """``(tiles, 4)`` float64: left, top, right and bottom of what each tile shows, in the original
    image's pixels; beyond its edges where it was padded."""
    kind: str = "image"
    """``image`` or ``video``."""
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further inputs of the vision graph, by name."""
    resample: Resample | None = None
    """Tokens that the model makes of others before it reads them; None: there are none."""
    native: np.ndarray | None = None
    """``order`` without the tokens of ``resample``, where there are some."""
    cells: tuple[Cell | None, ...] = ()
    """Where each tile lies, of models whose prompt may have text between tiles; None is a tile that
    shows the whole image."""
    lead: int = 0
    """Rows that the tower makes of a tile before its tokens ([CLS]), which the model reads where
    nothing is dropped; ``order`` counts them among the tile's."""

    def unshrunken(self) -> Medium:
        """The same with every token of the tiles, rather than with those of ``resample``."""
        if self.native is None:
            return self
        count = len(self.native)
        return replace(
            self,
            order=self.native,
            offsets=in_line(count),
            span=count,
            resample=None,
            native=None,
        )

    @property
    def tile_tokens(self) -> int:
        """Tokens that the vision graph chooses from in one tile."""
        return self.grid[0] * self.grid[1]

    def shown(self, entries: np.ndarray) -> np.ndarray:
        """Of places in ``order``, the tokens of tiles among them, as ``tile * tokens + token``."""
        tile, token = np.divmod(self.order[entries[entries >= 0]], self.lead + self.tile_tokens)
        own = (tile >= 0) & (tile < len(self.pixels)) & (token >= self.lead)
        picked: np.ndarray = (tile * self.tile_tokens + token - self.lead)[own]
        return picked


class Largest(NamedTuple):
    """The most that one image or video comes to."""

    tiles: int
    """Tiles or frames that the tower looks at."""
    rows: int
    """Image tokens as the prompt reads them before any is dropped."""
    separators: int = 0
    """Of ``rows``, those that are no patch of a tile: separators and [CLS]."""


class Preprocessor(Protocol):
    """What is done to an image before the vision graph: a frozen dataclass of settings."""

    kind: ClassVar[str]
    """Key in ``PREPROCESSORS`` and tag in the manifest."""

    @property
    def sampling(self) -> FrameSampling | None:
        """Which frames of a video the model takes; None: it takes no video."""

    @property
    def shrinks(self) -> bool:
        """Whether tokens of large images are means of others (``Medium.resample``)."""
        return False

    def __call__(self, image: Image.Image, of: int = 1) -> Medium:
        """Preprocess an image.

        Args:
            image: As ``load_image`` returns it.
            of: Images in the prompt; some models see one image in more detail than several.

        Raises:
            ImageUnreadable: An image so narrow that it cannot be made the model's input.
        """

    def video(self, frames: Sequence[Image.Image], fps: float | None = None) -> Medium:
        """Preprocess a video.

        Args:
            frames: As ``read_frames`` returns them, all of one size.
            fps: Frames of ``frames`` for each second of the video; None where it is not known.

        Raises:
            VideoNotSupported: The model takes no video.
            VideoUnreadable: There are no frames, or they are of several sizes.
            ImageUnreadable: As for images.
        """

    def largest(self, tokens: int, frames: int = 0) -> Largest:
        """What the largest image comes to, or a video.

        Args:
            tokens: Image tokens of a tile or frame, of those of any size the most.
            frames: Of a video; 0 asks for an image.
        """

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON types, without the tag."""

    @classmethod
    def from_dict(cls, data: object, where: str) -> Preprocessor:
        """Read what ``to_dict`` wrote, strictly.

        Raises:
            ManifestInvalid: naming the entry, which stands at ``where``, and what is wrong.
        """


def in_line(count: int) -> np.ndarray:
    """``offsets`` of tokens whose positions are numbered one after the other: ``(1, count)``."""
    return np.arange(count, dtype=np.int64)[None]


def tile_after_tile(
    pixels: np.ndarray,
    grid: tuple[int, int],
    boxes: Sequence[Box],
    *,
    extra: int = 0,
    separator: bool = False,
    cells: Sequence[Cell | None] = (),
    kind: str = "image",
) -> Medium:
    """A medium whose tokens stand one tile after the other.

    Args:
        pixels: ``(tiles, 3, height, width)`` float32.
        grid: Rows and columns of tokens of a tile.
        boxes: What each tile shows.
        extra: Tokens that each tile has besides its grid.
        separator: One ``SEPARATOR`` follows at the very end.
        cells: Where each tile lies, see ``Medium.cells``.
        kind: ``image`` or ``video``.
    """
    order = np.arange(len(pixels) * (grid[0] * grid[1] + extra), dtype=np.int64)
    if separator:
        order = np.append(order, SEPARATOR)
    return Medium(
        pixels=pixels,
        grid=grid,
        order=order,
        offsets=in_line(len(order)),
        span=len(order),
        boxes=np.array(boxes, np.float64).reshape(len(pixels), 4),
        kind=kind,
        cells=tuple(cells),
        lead=extra,
    )


def check_frames(frames: Sequence[Image.Image]) -> None:
    """Refuse what is no video.

    Raises:
        VideoUnreadable: There are no frames, or they are of several sizes.
    """
    if not frames:
        raise VideoUnreadable("the video", "it has no frames; give at least one")
    sizes = {frame.size for frame in frames}
    if len(sizes) > 1:
        named = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:3])
        raise VideoUnreadable(
            "the video",
            f"its frames have several sizes ({named} pixels); give frames of the same size",
        )
