"""``AnyResPreprocessor`` against the processors on Pillow and the models of Hugging Face."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaNextConfig,
    LlavaNextModel,
)
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)

from vtp.errors import (
    ImageUnreadable,
    ManifestInvalid,
    ModelNotSupported,
    VideoNotSupported,
)
from vtp.export.processors.anyres import NEXT_DEFAULTS, anyres_preprocessor
from vtp.runtime.preprocessing import (
    read_preprocessor,
    write_preprocessor,
)
from vtp.runtime.preprocessing.anyres import AnyResPreprocessor

from .mosaics import GRID, SIDE, SIZES, TEXT, TOKENS, VISION, assert_defaults, hf, numbered
from .pictures import picture

torch.set_num_threads(1)


NEXT_POINTS = [[SIDE * a, SIDE * b] for a, b in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]

NEXT = {
    "image_processor_type": "LlavaNextImageProcessor",
    "size": {"shortest_edge": SIDE},
    "crop_size": {"height": SIDE, "width": SIDE},
    "image_grid_pinpoints": NEXT_POINTS,
}


@pytest.fixture(scope="module")
def next_model() -> LlavaNextModel:
    return LlavaNextModel(
        LlavaNextConfig(
            vision_config=CLIPVisionConfig(**VISION),
            text_config=LlamaConfig(**TEXT),
            image_grid_pinpoints=NEXT_POINTS,
            image_token_id=7,
        )
    )


def read_next(config: dict[str, Any] = NEXT, **settings: Any) -> AnyResPreprocessor:
    return anyres_preprocessor(config, GRID, model={}, **settings)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_next_equals_hugging_face(size: tuple[int, int], next_model: LlavaNextModel) -> None:
    image = picture(*size)
    medium = read_next()(image)
    theirs = hf(LlavaNextImageProcessorPil, NEXT, [image])[0]
    assert medium.pixels.dtype == np.float32
    np.testing.assert_array_equal(medium.pixels, theirs)
    newline = torch.tensor([-1.0], dtype=torch.float64)
    packed, lengths = next_model.pack_image_features(
        [numbered(medium)], torch.tensor([size[::-1]]), "default", image_newline=newline
    )
    assert medium.order.tolist() == packed[0][:, 0].tolist()
    assert medium.span == lengths[0] == len(medium.order)
    assert medium.offsets.tolist() == [list(range(medium.span))]


@given(st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_next_packs_as_hugging_face(next_model: LlavaNextModel, size: tuple[int, int]) -> None:
    assume(max(size) <= 80 * min(size))
    medium = read_next()(picture(*size))
    newline = torch.tensor([-1.0], dtype=torch.float64)
    packed, _ = next_model.pack_image_features(
        [numbered(medium)], torch.tensor([size[::-1]]), "default", image_newline=newline
    )
    assert medium.order.tolist() == packed[0][:, 0].tolist()


@pytest.mark.parametrize("size", [(640, 480), (336, 336), (333, 1000), (1200, 700)], ids=str)
def test_next_at_full_size(size: tuple[int, int]) -> None:
    config = {"size": {"shortest_edge": 336}, "crop_size": 336}
    full = read_next({**config, "image_processor_type": "LlavaNextImageProcessor"})
    image = picture(*size)
    medium = full(image)
    np.testing.assert_array_equal(medium.pixels, hf(LlavaNextImageProcessorPil, config, [image])[0])


def test_several_images_of_next_are_cut_like_one() -> None:
    image = picture(100, 41)
    np.testing.assert_array_equal(read_next()(image, of=3).pixels, read_next()(image).pixels)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_spatial_is_the_whole_mosaic_by_rows(size: tuple[int, int]) -> None:
    """FasterVLM: overview, then (tile row, row, tile column, column), no bars, no separators."""
    unpad, medium = read_next()(picture(*size)), read_next(layout="spatial")(picture(*size))
    np.testing.assert_array_equal(medium.pixels, unpad.pixels)
    assert medium.resample is None
    assert medium.order[:TOKENS].tolist() == list(range(TOKENS))
    places = []
    for token in medium.order[TOKENS:].tolist():
        tile, inner = divmod(token, TOKENS)
        left, top = medium.boxes[tile][:2] - medium.boxes[1][:2]
        width, height = medium.boxes[1][2:] - medium.boxes[1][:2]
        row, column = divmod(inner, GRID[1])
        places.append((round(top / height) * GRID[0] + row, round(left / width) * GRID[1] + column))
    assert places == sorted(places)
    assert sorted(medium.order.tolist()) == list(range(len(medium.pixels) * TOKENS))


@pytest.mark.parametrize("size", [(100, 41), (41, 100), (60, 60)], ids=str)
def test_boxes_are_what_is_seen(size: tuple[int, int]) -> None:
    """A ramp tells, by its value, which place of the image a place of a tile shows."""
    width, height = size
    preprocess = read_next({**NEXT, "resample": 2, "do_normalize": False, "do_rescale": False})
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 2, y * 2, np.full_like(x, 200)], -1).astype(np.uint8)
    medium = preprocess(Image.fromarray(ramp))
    checked = 0
    for tile, (left, top, right, bottom) in zip(medium.pixels, medium.boxes, strict=True):
        for row, column in ((3, 5), (14, 14), (25, 20)):
            if tile[2, row, column] < 199:
                continue  # a bar, or its edge
            across = left + (column + 0.5) * (right - left) / SIDE
            down = top + (row + 0.5) * (bottom - top) / SIDE
            if 4 < across < width - 4 and 4 < down < height - 4:
                assert tile[0, row, column] / 2 + 0.5 == pytest.approx(across, abs=1)
                assert tile[1, row, column] / 2 + 0.5 == pytest.approx(down, abs=1)
                checked += 1
    assert checked >= 4


def test_dict_round_trip() -> None:
    for preprocess in (read_next(), read_next(layout="spatial")):
        data = json.loads(json.dumps(write_preprocessor(preprocess)))
        assert read_preprocessor(data) == preprocess


def test_defaults_are_those_of_transformers() -> None:
    assert_defaults(NEXT_DEFAULTS, LlavaNextImageProcessorPil)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, "'ViTImageProcessor' is not"),
        ({"crop_size": 56}, "side of a square tile"),
        ({"size": {"height": 28, "width": 30}}, "side of a square tile"),
        ({"size": {"shortest_edge": [28]}}, "side of a square tile"),
        ({"image_grid_pinpoints": [[28, 40]]}, r"\[28, 40\].*multiples of 28"),
        ({"image_grid_pinpoints": []}, "image_grid_pinpoints"),
        ({"image_grid_pinpoints": [[28 * 13, 28 * 13]]}, "at most 144 tiles"),
        ({"image_grid_pinpoints": "28"}, "image_grid_pinpoints"),
        ({"image_grid_pinpoints": [[0, 28]]}, "pinpoints"),
        ({"resample": 5}, "resample 5"),
        ({"image_std": [0.5, 0, 0.5]}, "std"),
    ],
    ids=str,
)
def test_what_cannot_be_reproduced_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelNotSupported, match=words):
        read_next({**NEXT, **change})


def test_model_and_processor_must_agree() -> None:
    with pytest.raises(ModelNotSupported, match=r"differ from those of config\.json"):
        anyres_preprocessor(NEXT, GRID, model={"image_grid_pinpoints": [[SIDE, SIDE]]})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"side": 0}, "side"),
        ({"side": 30}, "pinpoints"),
        ({"pinpoints": []}, "pinpoints"),
        ({"pinpoints": [[28 * 20, 28 * 20]]}, "pinpoints"),
        ({"most": 0}, "most"),
        ({"layout": "rows"}, "layout"),
        ({"pad_to_square": [1, 2]}, "pad_to_square"),
        ({"grid": [7, 0]}, "grid"),
        ({"colour": 1}, "colour"),
        ({"std": [1, 1, 0]}, "std"),
    ],
    ids=str,
)
def test_manifest_is_read_strictly(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ManifestInvalid, match=where):
        read_preprocessor({**write_preprocessor(read_next()), **change})


def test_an_image_less_than_a_pixel_wide_is_refused() -> None:
    with pytest.raises(ImageUnreadable, match=r"image \(1 x 400 pixels\).*too narrow"):
        read_next()(picture(1, 400))


def test_next_takes_no_video() -> None:
    with pytest.raises(VideoNotSupported, match="does not support videos"):
        read_next().video([picture(9, 9)])
