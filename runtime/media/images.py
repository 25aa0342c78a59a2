"""Images from files, bytes and arrays: format and size are checked before a pixel is decoded.

Pillow's ``Image.open`` is passed by: its pixel limit is a process-wide setting and a warning,
ours is an argument and an error, and it would try every parser that Pillow has.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

# Importing a plugin registers its parser in Image.OPEN.
from PIL import (  # noqa: F401  isort: skip
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from ...errors import ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable
from ..files.open_file import label_of, open_file

DEFAULT_MAX_PIXELS = 8192 * 8192
"""Pixels that an image may have at most, unless the caller says otherwise (67 million)."""

ALLOWED_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Formats that are decoded; of several frames or pages, the first."""

ImageSource = str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray

# (offset, magic, name) of what users try most often besides: named in the error, never parsed.
_OTHER_FORMATS = (
    (0, b"%PDF", "PDF"),
    (0, b"%!PS", "PostScript"),
    (0, b"8BPS", "PSD"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"icns", "ICNS"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"<svg", "SVG"),
    (0, b"<?xml", "XML (SVG)"),
    (0, b"\x1aE\xdf\xa3", "Matroska video"),
    (4, b"ftypavi", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftyp", "MP4 video"),
)

# What Pillow's parsers raise when they meet damaged data.
_PARSE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # where the caller turned warnings into errors
)


def load_image(
    source: ImageSource, *, max_pixels: int = DEFAULT_MAX_PIXELS, name: str | None = None
) -> Image.Image:
    """Read an image as ``transformers.image_utils.load_image`` does: upright, then RGB.

    Args:
        source: A path, the bytes of a file, a binary file object (read from its start), a Pillow
            image, or a uint8 array ``(height, width)``, ``(height, width, 3)`` RGB or
            ``(height, width, 4)`` RGBA. Alpha is dropped, as Pillow's ``convert("RGB")`` does.
        max_pixels: Limit on width x height, held against the header before decoding.
        name: What errors call the image; the path, or "image", if None.

    Returns:
        A new image of mode RGB with the EXIF orientation applied.

    Raises:
        ImageUnreadable: No such file, no image, damaged data, or an array of another kind.
        ImageTypeNotAllowed: A format outside ``ALLOWED_FORMATS``.
        ImageTooLarge: More than ``max_pixels`` pixels.
        TypeError: ``source`` is none of the above.
    """
    if isinstance(source, Image.Image):
        return _upright_rgb(source, name or "image", max_pixels)
    if isinstance(source, np.ndarray):
        return _upright_rgb(_from_array(source, name or "array"), name or "array", max_pixels)
    if isinstance(source, bytes | bytearray | memoryview):
        return _decode(io.BytesIO(source), name or "image", max_pixels)
    if isinstance(source, str | os.PathLike):
        label = name or label_of(source)
        with open_file(source, label, "an image", ImageUnreadable) as file:
            return _decode(file, label, max_pixels)
    if hasattr(source, "read"):
        label = name or str(getattr(source, "name", "image"))
        try:
            source.seek(0)
        except (AttributeError, OSError):
            source = io.BytesIO(source.read())
        return _decode(source, label, max_pixels)
    raise TypeError(
        f"{type(source).__name__} is not an image source: give a path, bytes, a binary file "
        "object, a Pillow image or a uint8 array"
    )


def is_image_file(path: str) -> bool:
    """Whether a text is the path of a file that begins as an image that is decoded."""
    try:
        if not Path(path).is_file():
            return False
        with Path(path).open("rb") as file:
            head = file.read(16).ljust(16, b"\x00")
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        return False
    return _kind_of(head) is not None


def _kind_of(head: bytes) -> str | None:
    """The format of a file that begins so (16 bytes), of ``ALLOWED_FORMATS``."""
    for kind in ALLOWED_FORMATS:
        accept = Image.OPEN[kind][1]
        if accept is not None and accept(head) is True:
            return kind
    return None


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if array.dtype != np.uint8 or not shaped or not array.size:
        raise ImageUnreadable(
            name,
            f"the array is {array.dtype} of shape {array.shape}; give uint8 of shape "
            "(height, width), (height, width, 3) or (height, width, 4)",
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _decode(file: BinaryIO, name: str, max_pixels: int) -> Image.Image:
    head = file.read(64)
    if not isinstance(head, bytes):
        raise ImageUnreadable(name, "the file object reads text; open it in mode 'rb'")
    if not head:
        raise ImageUnreadable(name, "it is empty")
    kind = _kind_of(head[:16].ljust(16, b"\x00"))
    if kind is None:
        for offset, magic, found in _OTHER_FORMATS:
            if head[offset:].startswith(magic):
                raise ImageTypeNotAllowed(name, found, ALLOWED_FORMATS)
        raise ImageUnreadable(name, f"it is none of {', '.join(ALLOWED_FORMATS)}")
    if kind == "WEBP":
        # Its parser allocates the canvas at once, and asks Pillow's own limit about it.
        _check_pixels(_webp_size(head), name, max_pixels)
    file.seek(0)
    try:
        image = Image.OPEN[kind][0](file, "")
    except _PARSE_ERRORS as error:
        raise ImageUnreadable(name, f"it starts as {kind}, but its header: {error}") from error
    return _upright_rgb(image, name, max_pixels)


def _webp_size(head: bytes) -> tuple[int, int]:
    """Canvas from the first 30 bytes (developers.google.com/speed/webp/docs/riff_container)."""
    chunk, body = head[12:16], head[20:30].ljust(10, b"\x00")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", body[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _check_pixels(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageTooLarge(name, width, height, max_pixels)


def _upright_rgb(image: Image.Image, name: str, max_pixels: int) -> Image.Image:
    _check_pixels(image.size, name, max_pixels)
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        # A tile is decoded whole, and may be larger than the image that it is part of.
        width, height = (image.tag_v2.get(tag) for tag in (322, 323))
        if isinstance(width, int) and isinstance(height, int):
            _check_pixels((width, height), name, max_pixels)
    if not image.width or not image.height:
        raise ImageUnreadable(name, f"it has {image.width} x {image.height} pixels")
    try:
        image = ImageOps.exif_transpose(image)
        if isinstance(image.info.get("transparency"), bytes):
            # convert() drops it anyway, with a warning that says nothing to the user here.
            del image.info["transparency"]
        image = image.convert("RGB")
    except _PARSE_ERRORS as error:
        raise ImageUnreadable(name, f"it cannot be decoded: {error}") from error
    if not isinstance(image.info.get("transparency", ()), tuple):
        # Left over from modes of one channel; an RGB image with it cannot be converted further.
        del image.info["transparency"]
    return image


def rgb_on_white(image: Image.Image) -> Image.Image:
    """RGB, with transparency laid on white: the image processors' conversion.

    Source: ``convert_to_rgb`` in ``transformers/image_transforms.py``.
    """
    if "A" not in image.getbands() and image.info.get("transparency") is None:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
