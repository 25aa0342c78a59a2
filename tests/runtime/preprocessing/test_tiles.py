"""``TilePreprocessor`` against InternVL's image processor on Pillow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)

from vtp.errors import ManifestInvalid, ModelNotSupported, VideoUnreadable
from vtp.export.processors.tiles import TILE_DEFAULTS, tile_preprocessor
from vtp.runtime.preprocessing import read_preprocessor, write_preprocessor
from vtp.runtime.preprocessing.tiles import TilePreprocessor

from .mosaics import SIZES, assert_defaults, hf
from .pictures import picture

GRID = (4, 4)
CONFIG = {
    "image_processor_type": "GotOcr2ImageProcessor",
    "size": {"height": 28, "width": 28},
    "crop_to_patches": True,
    "max_patches": 6,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def read(config: dict[str, Any] = CONFIG, **settings: Any) -> TilePreprocessor:
    return tile_preprocessor(config, GRID, **settings)


# The library takes an edge of 1, 3 or 4 pixels for the channels.
@pytest.mark.parametrize("size", [size for size in SIZES if min(size) > 4], ids=str)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"min_patches": 3, "max_patches": 12},
        {"max_patches": 1},
        {"size": {"height": 20, "width": 31}, "resample": 2},
    ],
    ids=str,
)
def test_equals_hugging_face(change: dict[str, Any], size: tuple[int, int]) -> None:
    image = picture(*size)
    medium = read({**CONFIG, **change})(image)
    np.testing.assert_array_equal(
        medium.pixels, hf(GotOcr2ImageProcessorPil, {**CONFIG, **change}, [image])
    )
    count = len(medium.pixels) * 16
    assert medium.order.tolist() == medium.offsets[0].tolist() == list(range(count))
    assert (medium.span, medium.grid, medium.kind) == (count, GRID, "image")


@pytest.mark.parametrize("size", [(640, 480), (448, 1500)], ids=str)
def test_equals_hugging_face_at_full_size(size: tuple[int, int]) -> None:
    config = {**CONFIG, "size": {"height": 448, "width": 448}, "max_patches": 12}
    image = picture(*size)
    np.testing.assert_array_equal(
        read(config)(image).pixels, hf(GotOcr2ImageProcessorPil, config, [image])
    )


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 12), st.integers(1, 12))
def test_tiles_are_arranged_as_by_hugging_face(
    width: int, height: int, least: int, more: int
) -> None:
    most = least + more
    preprocess = read({**CONFIG, "min_patches": least, "max_patches": most})
    expected = get_optimal_tiled_canvas((height, width), (28, 28), least, most)
    assert preprocess._canvas(width, height) == expected


def test_boxes() -> None:
    medium = read()(picture(90, 60))  # three columns and two rows
    assert medium.boxes.tolist() == [
        [0, 0, 30, 30],
        [30, 0, 60, 30],
        [60, 0, 90, 30],
        [0, 30, 30, 60],
        [30, 30, 60, 60],
        [60, 30, 90, 60],
        [0, 0, 90, 60],
    ]


def test_frames_are_one_tile_each() -> None:
    """Against the processor of images: that of videos needs torchvision, and rounds otherwise."""
    frames = [picture(90, 60), picture(90, 60).rotate(180)]
    medium = read().video(frames)
    plain = {**CONFIG, "crop_to_patches": False}
    np.testing.assert_array_equal(medium.pixels, hf(GotOcr2ImageProcessorPil, plain, frames))
    assert medium.kind == "video"
    assert medium.order.tolist() == list(range(32))
    assert medium.boxes.tolist() == [[0, 0, 90, 60]] * 2
    with pytest.raises(VideoUnreadable, match="no frames"):
        read().video([])


def test_which_frames_are_taken() -> None:
    sampling = read().sampling
    assert sampling is not None
    assert (sampling.count, sampling.rule) == (8, "middle")
    shifted = read(video={**CONFIG, "num_frames": 4, "initial_shift": False}).sampling
    assert shifted is not None
    assert shifted.indices(10).tolist() == [0, 2, 5, 7]


def test_a_video_of_absurd_size_is_refused() -> None:
    large = {"height": 8192, "width": 8192}
    with pytest.raises(ModelNotSupported, match=r"most = 6 .* at most 67108864 pixels"):
        read({**CONFIG, "size": large})
    preprocess = read({**CONFIG, "size": large, "max_patches": 1})
    with pytest.raises(VideoUnreadable, match=r"6 frames of 8192 x 8192 .* 4\.5 GiB"):
        preprocess.video([picture(2, 2)] * 6)


def test_dict_round_trip() -> None:
    data = json.loads(json.dumps(write_preprocessor(read())))
    assert read_preprocessor(data) == read()


def test_defaults_are_those_of_transformers() -> None:
    unset = {"do_pad": False, "default_to_square": False}  # not the processor's own
    defaults = {k: v for k, v in TILE_DEFAULTS.items() if k not in unset}
    assert_defaults(defaults, GotOcr2ImageProcessorPil)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "'CLIPImageProcessor' is not"),
        ({"do_resize": False}, "one fixed size"),
        ({"size": {"shortest_edge": 28}}, "one fixed size"),
        ({"max_patches": 1000}, "most = 1000"),
        ({"max_patches": "12"}, "most = '12'"),
        ({"min_patches": 7}, r"least = 7 .* no more than most \(6\)"),
        ({"resample": 5}, "resample 5"),
        ({"num_frames": 0}, "num_frames 0"),
        ({"initial_shift": 0.5}, "initial_shift 0.5"),
    ],
    ids=str,
)
def test_what_cannot_be_reproduced_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelNotSupported, match=words):
        read({**CONFIG, **change})


def test_frames_that_are_prepared_otherwise_are_refused() -> None:
    for change in ({"image_std": 0.5}, {"size": {"height": 28, "width": 29}}):
        with pytest.raises(ModelNotSupported, match="video processor that resizes or normalizes"):
            read(video={**CONFIG, **change})


@pytest.mark.parametrize(
    ("change", "where"),
    [({"least": 7}, "least"), ({"most": 0}, "most"), ({"width": 0}, "width"), ({"a": 1}, "'a'")],
    ids=str,
)
def test_manifest_is_read_strictly(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ManifestInvalid, match=where):
        read_preprocessor({**write_preprocessor(read()), **change})
