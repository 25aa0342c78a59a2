"""Loading images: equal to transformers' ``load_image``; refusals before decoding."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers.image_utils import load_image as hf_load_image

from vtp.errors import ImageError, ImageTooLarge, ImageTypeNotAllowed, ImageUnreadable
from vtp.runtime.media.images import ALLOWED_FORMATS, load_image

RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 31, 3), np.uint8))
DEEP = Image.fromarray(np.arange(0, 65536, 97, np.uint16)[:600].reshape(20, 30))
RGBA = Image.merge("RGBA", (*RGB.split(), RGB.convert("L")))


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def palette(transparency: bytes | int | None) -> bytes:
    settings = {} if transparency is None else {"transparency": transparency}
    return encoded(RGB.quantize(40), "PNG", **settings)


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


FILES = {
    "png rgb": encoded(RGB, "PNG"),
    "png rgb, one transparent colour": encoded(RGB, "PNG", transparency=RGB.getpixel((3, 4))),
    "png grey": encoded(RGB.convert("L"), "PNG"),
    "png grey, one transparent level": encoded(RGB.convert("L"), "PNG", transparency=7),
    "png grey alpha": encoded(RGBA.convert("LA"), "PNG"),
    "png rgba": encoded(RGBA, "PNG"),
    "png one bit": encoded(RGB.convert("1"), "PNG"),
    "png one bit, one transparent level": encoded(RGB.convert("1"), "PNG", transparency=1),
    "png palette": palette(None),
    "png palette, one transparent": palette(3),
    "png palette, alpha for each": palette(bytes(range(40))),
    "png 16 bit grey": encoded(DEEP, "PNG"),
    "tiff 16 bit grey": encoded(DEEP, "TIFF"),
    "tiff float": encoded(Image.fromarray(np.linspace(-9, 300, 600).reshape(20, 30)), "TIFF"),
    "tiff cmyk": encoded(RGB.convert("CMYK"), "TIFF"),
    "tiff lab": encoded(RGB.convert("LAB"), "TIFF"),
    "jpeg": encoded(RGB, "JPEG"),
    "jpeg grey": encoded(RGB.convert("L"), "JPEG"),
    "jpeg cmyk": encoded(RGB.convert("CMYK"), "JPEG"),
    "webp": encoded(RGB, "WEBP"),
    "webp alpha": encoded(RGBA, "WEBP", lossless=True),
    "webp of two frames": encoded(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(90)]),
    "gif": encoded(RGB, "GIF"),
    "gif of two frames": encoded(RGB, "GIF", save_all=True, append_images=[RGB.rotate(180)]),
    "gif transparent": encoded(RGB.quantize(9), "GIF", transparency=2),
    "bmp": encoded(RGB, "BMP"),
    "ppm": encoded(RGB, "PPM"),
    **{
        f"jpeg orientation {value}": encoded(RGB, "JPEG", exif=orientation(value))
        for value in range(10)
    },
    "png orientation 6": encoded(RGB, "PNG", exif=orientation(6)),
    "webp orientation 8": encoded(RGB, "WEBP", exif=orientation(8)),
    "tiff orientation 5": encoded(RGB, "TIFF", exif=orientation(5)),
}


@pytest.mark.parametrize("name", FILES)
def test_equals_transformers(name: str) -> None:
    opened = Image.open(io.BytesIO(FILES[name]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, on palettes with transparency
        expected = hf_load_image(opened)
    for source in (FILES[name], io.BytesIO(FILES[name]), Image.open(io.BytesIO(FILES[name]))):
        found = load_image(source)
        assert found.mode == "RGB"
        assert found.size == expected.size
        np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_path_with_a_misleading_suffix(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(FILES["jpeg orientation 6"])
    for source in (path, str(path)):
        expected = hf_load_image(str(path))
        np.testing.assert_array_equal(np.asarray(load_image(source)), np.asarray(expected))


def test_arrays_and_streams() -> None:
    rgb, grey, rgba = (np.asarray(im) for im in (RGB, RGB.convert("L"), RGBA))
    np.testing.assert_array_equal(np.asarray(load_image(rgb)), rgb)
    np.testing.assert_array_equal(np.asarray(load_image(rgb[:, ::-1])), rgb[:, ::-1])
    np.testing.assert_array_equal(np.asarray(load_image(rgba)), rgb)
    np.testing.assert_array_equal(np.asarray(load_image(grey)), np.repeat(grey[..., None], 3, 2))

    class Pipe(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            return FILES["bmp"] if size < 0 else b""

        def seek(self, *_: int) -> int:
            raise io.UnsupportedOperation

    np.testing.assert_array_equal(np.asarray(load_image(Pipe())), rgb)
    moved = io.BytesIO(FILES["bmp"])
    moved.seek(9)
    np.testing.assert_array_equal(np.asarray(load_image(moved)), rgb)


def test_input_is_left_alone() -> None:
    image = Image.open(io.BytesIO(palette(bytes(range(40)))))
    load_image(image)
    assert image.mode == "P"
    assert "transparency" in image.info
    assert load_image(RGB) is not RGB


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (b"", "empty"),
        (b"no image at all, but text", "none of JPEG, PNG"),
        (b"\x00" * 100, "none of"),
        (b"P", "none of"),
        (FILES["png rgb"][:20], "header"),
        (FILES["png rgb"][:-300], "decoded"),
        (FILES["jpeg"][:-200], "decoded"),
        (FILES["jpeg"][:4], "header"),
        (FILES["webp"][:24], "header"),
        (FILES["gif"][:40], "cannot be read"),
        (FILES["bmp"][:60], "decoded"),
        (FILES["tiff cmyk"][:9], "cannot be read"),
        (io.StringIO("text"), "'rb'"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((3, 4, 4, 3), np.uint8), r"\(3, 4, 4, 3\)"),
        (np.zeros((3, 8, 8), np.uint8), r"\(3, 8, 8\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (Image.new("RGB", (0, 5)), "0 x 5"),
        ("absent.png", "absent.png .*no such file"),
        ("http://example.org/cat.png", "no such file"),
        ("nul\0", "null"),
        ("x" * 5000, "xxx"),
    ],
)
def test_unreadable(source: object, words: str) -> None:
    with pytest.raises(ImageUnreadable, match=words) as caught:
        load_image(source)
    assert len(str(caught.value)) < 400


def test_folder_name_and_other_types(tmp_path: Path) -> None:
    with pytest.raises(ImageUnreadable, match="folder"):
        load_image(tmp_path)
    with pytest.raises(ImageUnreadable, match=r"^the first image cannot"):
        load_image(b"text", name="the first image")
    with pytest.raises(TypeError, match="int is not an image source"):
        load_image(7)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"%PDF-1.7 ...", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (encoded(RGB, "ICO"), "ICO"),
        (encoded(RGB, "JPEG2000", no_jp2=False), "JPEG 2000"),
        (b"\x00\x00\x00\x20ftypheic\x00\x00", "HEIC"),
        (b"\x00\x00\x00\x20ftypavif\x00\x00", "AVIF"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00", "MP4"),
    ],
)
def test_type_not_allowed(data: bytes, found: str) -> None:
    with pytest.raises(ImageTypeNotAllowed, match=f"is of type {found}") as caught:
        load_image(data)
    assert all(kind in str(caught.value) for kind in ALLOWED_FORMATS)


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\x00\x00\x00\r" + body + struct.pack(">I", zlib.crc32(body))


def webp_header(chunk: bytes, body: bytes) -> bytes:
    payload = b"WEBP" + chunk + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(payload)) + payload


@pytest.mark.parametrize("side", [9000, 60000])  # below and above Pillow's own limit
@pytest.mark.parametrize("kind", ["png", "webp"])
def test_too_large_is_seen_in_the_header(side: int, kind: str) -> None:
    if kind == "png":
        data = png_header(side, side) + b"\x00\x00\x00\x00IDAT"
    else:
        canvas = (side - 1).to_bytes(3, "little") * 2
        data = webp_header(b"VP8X", b"\x00" * 4 + canvas)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageTooLarge, match=f"{side} x {side}"):
            load_image(data)


def test_pixel_limit_is_exact() -> None:
    data = {kind: encoded(RGB, kind) for kind in ("PNG", "WEBP", "JPEG", "GIF", "TIFF", "BMP")}
    data["lossless"] = encoded(RGB, "WEBP", lossless=True)
    data["alpha"] = encoded(RGBA, "WEBP", exif=orientation(1))
    for source in (*data.values(), RGB, np.asarray(RGB)):
        assert load_image(source, max_pixels=31 * 23).size == (31, 23)
        with pytest.raises(ImageTooLarge, match="31 x 23 = 713 pixels"):
            load_image(source, max_pixels=31 * 23 - 1)


def test_tile_larger_than_the_tiff() -> None:
    # width, height, bits, compression, photometric, tile width and height, offset, byte count
    tags = {256: 5, 257: 4, 258: 8, 259: 1, 262: 1, 322: 60000, 323: 60000, 324: 8, 325: 20}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    tiff = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + b"\x00" * 4
    assert Image.open(io.BytesIO(tiff)).size == (5, 4)
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        load_image(tiff)


def test_pillow_settings_are_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    load_image(FILES["gif"])
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_damaged_files_raise_only_our_errors() -> None:
    random = np.random.default_rng(1)
    for data in FILES.values():
        for _ in range(15):
            damaged = bytearray(data[: random.integers(8, len(data))])
            for place in random.integers(0, len(damaged), 4):
                damaged[place] = random.integers(256)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with contextlib.suppress(ImageError):
                    load_image(bytes(damaged), max_pixels=10**6)
