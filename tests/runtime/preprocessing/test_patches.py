"""``PatchPreprocessor`` against the processor and the models of Qwen2-VL and Qwen2.5-VL."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel, Qwen2VLConfig, Qwen2VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)
from transformers.vision_utils import get_vision_position_ids, get_vision_window_index

from vtp.errors import ImageUnreadable, ManifestInvalid, ModelNotSupported, VideoUnreadable
from vtp.export.processors.patches import PATCH_DEFAULTS, patch_preprocessor
from vtp.runtime.preprocessing import Medium, read_preprocessor, write_preprocessor
from vtp.runtime.preprocessing.patches import PatchPreprocessor

from .mosaics import assert_defaults
from .pictures import picture

torch.set_num_threads(1)

CONFIG: dict[str, Any] = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "size": {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 40},
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
}
MODEL2 = {"model_type": "qwen2_vl"}
MODEL25 = {"model_type": "qwen2_5_vl", "vision_config": {"tokens_per_second": 2}}

# (width, height): square, odd, wide, tall, far too small, far too large
SIZES = [
    (56, 56),
    (57, 83),
    (300, 100),
    (90, 400),
    (3, 2),
    (1, 200),
    (640, 427),
    (1000, 999),
    (28, 280),
    (42, 42),
    (2000, 11),
]
TEXT = {
    "hidden_size": 16,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "vocab_size": 8,
    "rope_parameters": {
        "rope_type": "default",
        "mrope_section": [2, 3, 3],
        "rope_theta": 10000.0,
    },
}
VISION = {"depth": 1, "num_heads": 1, "hidden_size": 16}


def read(
    config: dict[str, Any] = CONFIG, model: dict[str, Any] = MODEL25, **settings: Any
) -> PatchPreprocessor:
    windowed = model["model_type"] == MODEL25["model_type"]
    return patch_preprocessor(config, model=model, windowed=windowed, **settings)


@pytest.fixture(scope="module")
def qwen2() -> Qwen2VLModel:
    vision = {**VISION, "embed_dim": 16}
    return Qwen2VLModel(Qwen2VLConfig(text_config=TEXT, vision_config=vision))


@pytest.fixture(scope="module")
def qwen25() -> Qwen2_5_VLModel:
    vision = {**VISION, "intermediate_size": 8, "out_hidden_size": 16, "tokens_per_second": 2}
    return Qwen2_5_VLModel(Qwen2_5_VLConfig(text_config=TEXT, vision_config=vision))


def processed(config: dict[str, Any], images: list[Image.Image]) -> tuple[np.ndarray, np.ndarray]:
    # A copy: the processor writes into what it is given.
    settings = copy.deepcopy({k: v for k, v in config.items() if k != "image_processor_type"})
    out = Qwen2VLImageProcessorPil(**settings)(images)
    return np.asarray(out["pixel_values"]), np.asarray(out["image_grid_thw"])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    "change",
    [{}, {"min_pixels": 100, "max_pixels": 50_000}, {"resample": 2, "image_std": 0.5}],
    ids=str,
)
def test_equals_hugging_face(change: dict[str, Any], size: tuple[int, int]) -> None:
    config = {**CONFIG, **change}
    image = picture(*size)
    medium = read(config)(image)
    pixels, grid = processed(config, [image])
    assert medium.pixels.dtype == np.float32
    np.testing.assert_array_equal(medium.pixels[0].reshape(pixels.shape), pixels)
    assert medium.pixels.shape[1:3] == (medium.grid[0] * medium.grid[1], 4)
    assert [1, 2 * medium.grid[0], 2 * medium.grid[1]] == grid[0].tolist()
    assert medium.order.tolist() == list(range(medium.grid[0] * medium.grid[1]))
    assert medium.boxes.tolist() == [[0, 0, *size]]


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_sizes_are_hugging_faces(width: int, height: int) -> None:
    assume(max(width, height) <= 200 * min(width, height))
    preprocess = read()
    assert preprocess._size(height, width, 3136, 31360) == smart_resize(
        height, width, 28, 3136, 31360
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_places_and_windows_are_the_towers(size: tuple[int, int]) -> None:
    image = picture(*size)
    medium = read()(image)
    grid = torch.tensor([[1, 2 * medium.grid[0], 2 * medium.grid[1]]])
    places = medium.inputs["patch_positions"]
    assert places.dtype == np.int64
    assert places.reshape(-1, 2).tolist() == get_vision_position_ids(grid, 2).tolist()
    index, ends = get_vision_window_index(grid, 2, 112, 14)
    # The tower permutes tokens of four patches, and attends between ends.
    permuted = (4 * index[:, None] + torch.arange(4)).reshape(-1).numpy()
    expected = np.empty(len(permuted), np.int64)
    expected[permuted] = np.repeat(np.arange(len(ends) - 1), np.diff(ends.numpy()))
    assert medium.inputs["windows"].dtype == np.int64
    assert np.repeat(medium.inputs["windows"], 4).tolist() == expected.tolist()
    assert "windows" not in read(model=MODEL2)(image).inputs


def numbered(model: Any, medium: Medium, fps: float | None = None) -> torch.Tensor:
    """Positions of three text tokens, the medium and two text tokens: ``(3, tokens)``."""
    kind = 1 if medium.kind == "image" else 2
    types = torch.tensor([[0] * 3 + [kind] * len(medium.order) + [0] * 2])
    grid = torch.tensor([[len(medium.pixels), 2 * medium.grid[0], 2 * medium.grid[1]]])
    more: dict[str, Any] = {f"{medium.kind}_grid_thw": grid}
    if fps is not None:
        more["second_per_grid_ts"] = torch.tensor([2 / fps])
    positions, _ = model.get_rope_index(torch.zeros_like(types), types, **more)
    found: torch.Tensor = positions[:, 0]
    return found


@pytest.mark.parametrize("size", [(300, 100), (57, 200), (56, 56)], ids=str)
def test_positions_of_an_image(
    size: tuple[int, int], qwen2: Qwen2VLModel, qwen25: Qwen2_5_VLModel
) -> None:
    for settings, model in ((MODEL2, qwen2), (MODEL25, qwen25)):
        medium = read(model=settings)(picture(*size))
        positions = numbered(model, medium)
        assert medium.offsets.dtype == np.int64
        assert (medium.offsets + 3).tolist() == positions[:, 3:-2].tolist()
        assert positions[:, -2].tolist() == [3 + medium.span] * 3


@pytest.mark.parametrize("count", [1, 2, 7, 30])
@pytest.mark.parametrize("fps", [0.3, 1.0, 1.7, 2.0, 30.0, None])
def test_positions_of_a_video(
    count: int, fps: float | None, qwen2: Qwen2VLModel, qwen25: Qwen2_5_VLModel
) -> None:
    frames = [picture(60, 90)] * count
    old = read(model=MODEL2).video(frames, fps)
    positions = numbered(qwen2, old)
    assert (old.offsets + 3).tolist() == positions[:, 3:-2].tolist()
    assert positions[:, -2].tolist() == [3 + old.span] * 3
    medium = read().video(frames, fps)
    # A video that does not say its frames per second has 24, as VideoMetadata.sampled_fps says.
    positions = numbered(qwen25, medium, fps or 24.0)
    assert (medium.offsets + 3).tolist() == positions[:, 3:-2].tolist()
    assert positions[:, -2].tolist() == [3 + medium.span] * 3


def test_frames_are_taken_in_pairs() -> None:
    """Against the processor of images, whose two frames are one image twice.

    The processor of videos needs torchvision, and rounds otherwise.
    """
    frames = [picture(90, 60), picture(90, 60).rotate(180), picture(90, 60).rotate(90, expand=0)]
    medium = read().video(frames)
    pixels, _ = processed(CONFIG, frames)
    single = pixels.reshape(3, -1, 3, 2, 14, 14)
    assert medium.pixels.shape == (2, single.shape[1] // 4, 4, 3 * 2 * 14 * 14)
    found = medium.pixels.reshape(2, -1, 3, 2, 14, 14)
    for group, place, frame in ((0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 2)):
        np.testing.assert_array_equal(found[group, :, :, place], single[frame, :, :, place])
    assert medium.kind == "video"
    assert medium.order.tolist() == list(range(2 * medium.grid[0] * medium.grid[1]))
    assert medium.boxes.tolist() == [[0, 0, 90, 60]] * 2


def test_frames_have_pixel_limits_of_their_own() -> None:
    clip = {"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 4}}
    frames = [picture(200, 200)] * 4
    assert read(video={**CONFIG, **clip}).video(frames).grid == (2, 2)
    assert read(video=clip | {"image_mean": CONFIG["image_mean"]})(frames[0]).grid == (6, 6)
    # max(min(4 * 784, int(30 * 784 * 0.9) * 2 // 4 frames), int(1.05 * 784)) leaves all 4 tokens;
    # of a budget of 2 tokens is left that floor, one token.
    for tokens, grid in ((30, (2, 2)), (2, (1, 1))):
        capped = {**CONFIG, **clip, "cap_pixels_per_frame": True, "max_video_tokens": tokens}
        assert read(video=capped).video(frames).grid == grid


def test_which_frames_are_taken() -> None:
    sampling = read().sampling
    assert sampling is not None
    # 100 frames at 10 per second: 10 seconds, of which two frames each.
    assert sampling.indices(100, 10.0).tolist() == list(range(0, 100, 5))
    assert len(sampling.indices(30, 30.0)) == 4


def test_narrow_images_are_refused() -> None:
    with pytest.raises(ImageUnreadable, match=r"\(402 x 2 pixels\).*at most 200 times"):
        read()(picture(402, 2))


def test_videos_that_cannot_be() -> None:
    with pytest.raises(VideoUnreadable, match="no frames"):
        read().video([])
    big = {**CONFIG, "max_pixels": 6 * 10**7}
    with pytest.raises(VideoUnreadable, match="take fewer frames"):
        read(big).video([Image.new("RGB", (7000, 7000))] * 8)


def test_dict_round_trip() -> None:
    for preprocess in (read(), read(model=MODEL2)):
        data = json.loads(json.dumps(write_preprocessor(preprocess)))
        assert read_preprocessor(data) == preprocess


def test_defaults_are_those_of_transformers() -> None:
    assert_defaults(PATCH_DEFAULTS, Qwen2VLImageProcessorPil)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_processor_type": "CLIPImageProcessor"}, "'CLIPImageProcessor' is not"),
        ({"do_resize": False}, "do_resize"),
        ({"patch_size": 16}, "patch_size, merge_size and temporal_patch_size"),
        ({"merge_size": 1}, "patch_size, merge_size and temporal_patch_size"),
        ({"size": {"height": 28, "width": 28}}, "size"),
        ({"min_pixels": 10**9}, "size"),
        ({"max_pixels": 10**12}, "max_pixels = 1000000000000"),
        ({"resample": 5}, "resample 5"),
        ({"fps": "two"}, "fps 'two'"),
        ({"min_frames": 0}, "min_frames 0"),
    ],
    ids=str,
)
def test_what_cannot_be_reproduced_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelNotSupported, match=words):
        read({**CONFIG, **change})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({**MODEL25, "vision_config": {"window_size": 14}}, "window_size 14"),
        ({**MODEL25, "vision_config": {"patch_size": 16}}, "patch_size"),
        ({**MODEL25, "vision_config": {"tokens_per_second": 0}}, "tokens_per_second = 0"),
    ],
    ids=str,
)
def test_other_models_are_refused(model: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelNotSupported, match=words):
        read(model=model)


def test_frames_that_are_prepared_otherwise_are_refused() -> None:
    with pytest.raises(ModelNotSupported, match="video processor that resizes or normalizes"):
        read(video={**CONFIG, "image_std": 0.5})


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"patch": 0}, "patch"),
        ({"min_pixels": 10**6}, "min_pixels"),
        ({"video_max_pixels": 10**9}, "video_max_pixels"),
        ({"window": 0}, "window"),
        ({"tokens_per_second": -1}, "tokens_per_second"),
        ({"video_tokens": 0}, "video_tokens"),
        ({"windows": 1}, "windows"),
    ],
    ids=str,
)
def test_manifest_is_read_strictly(change: dict[str, Any], where: str) -> None:
    with pytest.raises(ManifestInvalid, match=where):
        read_preprocessor({**write_preprocessor(read()), **change})
