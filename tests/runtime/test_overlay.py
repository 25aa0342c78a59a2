"""Overlays: kept pixels unchanged, all else darker, files whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vtp.errors import ImageTypeNotAllowed
from vtp.runtime.media import overlay
from vtp.runtime.media.overlay import OUTLINE, draw_overlay, save_overlay

PHOTO = Image.fromarray(np.random.default_rng(0).integers(100, 256, (120, 160, 3)).astype(np.uint8))
WHOLE = (0, 0, 160, 120)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def test_kept_patches_are_unchanged_and_the_rest_is_darker() -> None:
    drawn = draw_overlay(PHOTO, [0, 5], grid=(3, 4), boxes=[WHOLE])
    assert drawn.size == PHOTO.size
    assert drawn.mode == "RGB"
    found, given = pixels(drawn), pixels(PHOTO)
    kept = np.zeros((120, 160), bool)
    kept[:40, :40] = kept[40:80, 40:80] = True
    np.testing.assert_array_equal(found[kept], given[kept])
    line = (found == OUTLINE).all(-1)
    assert line.any()
    assert not (line & kept).any()
    assert (found[~kept & ~line] < given[~kept & ~line]).all()


def test_the_line_follows_the_kept_patch() -> None:
    found = pixels(draw_overlay(PHOTO, [5], grid=(3, 4), boxes=[WHOLE]))
    line = (found == OUTLINE).all(-1)
    expected = np.zeros_like(line)
    expected[38:82, 38:82] = True
    expected[40:80, 40:80] = False
    np.testing.assert_array_equal(line, expected)


def test_neighbouring_patches_have_no_line_between() -> None:
    found = pixels(draw_overlay(PHOTO, range(12), grid=(3, 4), boxes=[WHOLE]))
    np.testing.assert_array_equal(found, pixels(PHOTO))


def test_outside_of_the_view_is_darkest() -> None:
    white = Image.new("RGB", (160, 120), "white")
    found = pixels(draw_overlay(white, [], grid=(3, 3), boxes=[(20, 0, 140, 120)]))
    assert (found[:, :20] < found[0, 20]).all()
    assert (found[:, 140:] < found[0, 139]).all()
    assert (found[:, 20:140] < 128).all()
    assert (found > 20).all()  # dimmed, not gone


def test_dimmed_colours_are_less_saturated() -> None:
    red = Image.new("RGB", (40, 40), (200, 20, 20))
    red_part, green_part, _ = pixels(draw_overlay(red, [], grid=(2, 2), boxes=[(0, 0, 40, 40)]))[
        0, 0
    ]
    assert 0 < green_part < red_part < 10 * green_part


@pytest.mark.parametrize("colour", ["black", "white", "#808080"])
@pytest.mark.parametrize("size", [(72, 72), (336, 336), (2000, 1500)])
def test_the_line_is_legible_at_any_size_and_brightness(size: tuple[int, int], colour: str) -> None:
    image = Image.new("RGB", size, colour)
    found = pixels(draw_overlay(image, [300], grid=(24, 24), boxes=[(0, 0, *size)]))
    line = (found == OUTLINE).all(-1)
    assert line.any()
    assert line.sum() < 0.01 * line.size
    assert np.abs(np.array(OUTLINE) - found[0, 0]).sum() > 250


def test_box_beyond_the_image() -> None:
    drawn = draw_overlay(PHOTO, [0, 1, 15], grid=(4, 4), boxes=[(0, -20, 160, 140)])
    found, given = pixels(drawn), pixels(PHOTO)
    np.testing.assert_array_equal(found[:20, :80], given[:20, :80])
    np.testing.assert_array_equal(found[100:, 120:], given[100:, 120:])
    outside = draw_overlay(PHOTO, [0], grid=(2, 2), boxes=[(500, 500, 600, 600)])
    assert (pixels(outside) < given).all()


@pytest.mark.parametrize("size", [(1, 1), (10, 7), (23, 5), (1, 300)])
def test_images_smaller_than_the_grid(size: tuple[int, int]) -> None:
    image = PHOTO.resize(size)
    everything = draw_overlay(image, range(576), grid=(24, 24), boxes=[(0, 0, *size)])
    np.testing.assert_array_equal(pixels(everything), pixels(image))
    nothing = draw_overlay(image, [], grid=(24, 24), boxes=[(0, 0, *size)])
    assert (pixels(nothing) < pixels(image)).all()


def test_every_pixel_belongs_to_one_patch() -> None:
    """Patches of fractional size neither overlap nor leave gaps."""
    box = (3.3, -7.9, 151.2, 131.6)
    whole = pixels(draw_overlay(PHOTO, range(7 * 9), grid=(7, 9), boxes=[box]))
    given = pixels(PHOTO)
    count = np.zeros((120, 160), int)
    for index in range(63):
        count += (pixels(draw_overlay(PHOTO, [index], grid=(7, 9), boxes=[box])) == given).all(-1)
    seen = (whole == given).all(-1)
    np.testing.assert_array_equal(count, seen.astype(int))
    assert seen[:, 3:151].all()


def test_other_modes_and_index_types() -> None:
    drawn = draw_overlay(PHOTO.convert("L"), np.array([1, 2]), grid=(3, 4), boxes=[WHOLE])
    assert drawn.mode == "RGB"
    same = draw_overlay(PHOTO.convert("L"), (2, 1), grid=(3, 4), boxes=[WHOLE])
    np.testing.assert_array_equal(pixels(drawn), pixels(same))


@pytest.mark.parametrize(
    ("kept", "grid", "box", "words"),
    [
        ([12], (3, 4), WHOLE, r"12 is outside .* 0\.\.11"),
        ([-1], (3, 4), WHOLE, "-1 is outside"),
        ([1, 2, 1], (3, 4), WHOLE, "repeat"),
        ([1.0], (3, 4), WHOLE, "not a whole number"),
        ([True, False], (3, 4), WHOLE, "not a mask"),
        (np.array([True, False]), (3, 4), WHOLE, "index"),
        ([0], (0, 4), WHOLE, r"\(0, 4\) are empty"),
        ([0], (3, 4), (10, 0, 10, 5), "box"),
        ([0], (3, 4), (0, 0, float("nan"), 5), "box"),
    ],
)
def test_what_cannot_be_drawn(
    kept: object, grid: tuple[int, int], box: tuple[float, float, float, float], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        draw_overlay(PHOTO, kept, grid=grid, boxes=[box])


@pytest.mark.parametrize("name", ["a.png", "a.PNG", "a.jpg", "a.jpeg", "a.webp"])
def test_save(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"an older file")
    assert save_overlay(str(path), PHOTO, [5], grid=(3, 4), boxes=[WHOLE]) == path
    found = pixels(Image.open(path))
    given = pixels(draw_overlay(PHOTO, [5], grid=(3, 4), boxes=[WHOLE]))
    assert np.abs(found - given).mean() < (1e-9 if name.lower().endswith("png") else 30)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.gif", "a", "a.png.txt"])
def test_save_as_another_type(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageTypeNotAllowed, match=r"allowed: \.png, \.jpg"):
        save_overlay(tmp_path / name, PHOTO, [5], grid=(3, 4), boxes=[WHOLE])
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_older_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"an older file")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(overlay.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_overlay(path, PHOTO, [5], grid=(3, 4), boxes=[WHOLE])
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [b"an older file"]
