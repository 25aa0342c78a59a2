"""A picture of which patches the model kept: these as they are, all else dimmed."""

from __future__ import annotations

import math
import operator
import os
import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from ...errors import ImageTypeNotAllowed

OUTLINE = (255, 196, 61)
"""Colour of the line around kept patches: stands out from the dimmed side at any brightness."""

DROPPED = 0.38
"""Brightness left to dropped patches."""

UNSEEN = 0.2
"""Brightness left to what lies outside the model's view."""

SATURATION = 0.45
"""Colour left to both."""

# Suffix of the file -> Pillow's format and its settings.
_FORMATS: dict[str, tuple[str, dict[str, int]]] = {
    ".png": ("PNG", {}),
    ".jpg": ("JPEG", {"quality": 92, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 92, "subsampling": 0}),
    ".webp": ("WEBP", {"quality": 92}),
}

Box = tuple[float, float, float, float]


def draw_overlay(
    image: Image.Image, kept: Iterable[int], *, grid: tuple[int, int], boxes: Sequence[Box]
) -> Image.Image:
    """Draw the kept patches of an image.

    Args:
        image: The original image, of any size.
        kept: Indices of the kept patches, in 0..tiles*rows*cols-1, counted row by row, tile after
            tile.
        grid: ``(rows, cols)`` of patches of a tile.
        boxes: ``(left, top, right, bottom)`` of each tile's grid in the image's pixels, as
            ``Medium.boxes``; may exceed the image.

    Returns:
        A new RGB image of the same size. The pixels of kept patches are unchanged; the line
        around them lies on the dimmed side.

    Raises:
        ValueError: An index outside the grid, twice, or no whole number; an empty grid or box.
    """
    rows, cols = grid
    indices = _checked(kept, len(boxes), rows, cols)
    for box in boxes:
        left, top, right, bottom = box
        if not all(map(math.isfinite, box)) or right <= left or bottom <= top:
            raise ValueError(f"box {box} is empty; give left < right and top < bottom")
    edges = [
        (
            _edges(left, right, cols, image.width),
            _edges(top, bottom, rows, image.height),
        )
        for left, top, right, bottom in boxes
    ]

    image = image.convert("RGB")
    grey = ImageEnhance.Color(image).enhance(SATURATION)
    picture = ImageEnhance.Brightness(grey).enhance(UNSEEN)
    for columns, lines in edges:
        seen = (columns[0], lines[0], columns[-1], lines[-1])
        picture.paste(ImageEnhance.Brightness(grey.crop(seen)).enhance(DROPPED), seen[:2])

    cells = []
    for index in indices:
        columns, lines = edges[index // (rows * cols)]
        line, column = divmod(index % (rows * cols), cols)
        cells.append((columns[column], lines[line], columns[column + 1], lines[line + 1]))
    left, top, right, bottom = boxes[-1]
    width = _line_width(min((right - left) / cols, (bottom - top) / rows))
    draw = ImageDraw.Draw(picture)
    for cell in cells:
        x0, y0, x1, y1 = cell
        if width and x0 < x1 and y0 < y1:
            draw.rectangle((x0 - width, y0 - width, x1 + width - 1, y1 + width - 1), fill=OUTLINE)
    # Afterwards, so that the lines of neighbours do not cover kept patches.
    for cell in cells:
        picture.paste(image.crop(cell), cell[:2])
    return picture


def save_overlay(
    path: str | os.PathLike[str],
    image: Image.Image,
    kept: Iterable[int],
    *,
    grid: tuple[int, int],
    boxes: Sequence[Box],
) -> Path:
    """Draw an overlay and write it whole or not at all; a file of that name is replaced.

    Args:
        path: Where to; the suffix chooses PNG, JPEG or WebP.
        image: As for ``draw_overlay``, like all that follow.
        kept: See there.
        grid: See there.
        boxes: See there.

    Returns:
        The path.

    Raises:
        ImageTypeNotAllowed: Another suffix, or none.
        ValueError: As ``draw_overlay``.
        OSError: The folder does not exist or cannot be written to.
    """
    path = Path(path)
    check_path(path)
    kind, settings = _FORMATS[path.suffix.lower()]
    picture = draw_overlay(image, kept, grid=grid, boxes=boxes)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        picture.save(draft, format=kind, **settings)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def check_path(path: Path) -> None:
    """Refuse what ``save_overlay`` could not write to, before anything is computed.

    Raises:
        ImageTypeNotAllowed: Another suffix, or none.
        FileNotFoundError: The folder does not exist.
    """
    if path.suffix.lower() not in _FORMATS:
        raise ImageTypeNotAllowed(str(path), path.suffix or "(no suffix)", _FORMATS)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"folder {str(path.parent)!r} does not exist; create it first")


def _checked(kept: Iterable[int], tiles: int, rows: int, cols: int) -> list[int]:
    if tiles < 1 or rows < 1 or cols < 1:
        raise ValueError(
            f"{tiles} grids of {(rows, cols)} are empty; give a box and (rows, cols), each at "
            "least 1"
        )
    indices = []
    for index in kept:
        try:
            indices.append(operator.index(index))
        except TypeError as error:
            raise ValueError(f"kept index {index!r} is not a whole number") from error
        if isinstance(index, bool | np.bool_):
            raise ValueError(f"kept index {index!r} is a boolean; give indices, not a mask")
        if not 0 <= index < tiles * rows * cols:
            raise ValueError(
                f"kept index {index} is outside {tiles} grids of {rows} x {cols}; "
                f"give indices in 0..{tiles * rows * cols - 1}"
            )
    if len(set(indices)) < len(indices):
        raise ValueError("kept indices are repeated; give each patch once")
    return indices


def _edges(start: float, end: float, count: int, limit: int) -> list[int]:
    """First pixels of the cells, and the end of the last; a pixel belongs where its centre is."""
    step = (end - start) / count
    return [min(max(math.ceil(start + step * i - 0.5), 0), limit) for i in range(count + 1)]


def _line_width(cell: float) -> int:
    """Pixels; none where lines would fill the patches between (brightness still tells)."""
    return max(1, round(cell / 16)) if cell >= 3 else 0
