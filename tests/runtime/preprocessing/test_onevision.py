"""``AnyResPreprocessor`` against LLaVA-OneVision's processor on Pillow and its model."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionModel,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)

from vtp.errors import ImageUnreadable, ModelNotSupported, VideoUnreadable
from vtp.export.processors.anyres import ONEVISION_DEFAULTS, anyres_preprocessor
from vtp.runtime.preprocessing import (
    SEPARATOR,
    Medium,
    read_preprocessor,
    write_preprocessor,
)
from vtp.runtime.preprocessing.anyres import AnyResPreprocessor

from .mosaics import GRID, SIDE, SIZES, TEXT, TOKENS, VISION, assert_defaults, hf, numbered
from .pictures import picture

torch.set_num_threads(1)

POINTS = [[SIDE * a, SIDE * b] for a in range(1, 7) for b in range(1, 7)]
CONFIG: dict[str, Any] = {
    "image_processor_type": "LlavaOnevisionImageProcessor",
    "size": {"height": SIDE, "width": SIDE},
    "image_grid_pinpoints": POINTS,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.5, 0.6],
}


@pytest.fixture(scope="module")
def model() -> LlavaOnevisionModel:
    return LlavaOnevisionModel(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**VISION),
            text_config=Qwen2Config(**TEXT),
            image_grid_pinpoints=POINTS,
            image_token_id=6,
            video_token_id=7,
        )
    )


def read(config: dict[str, Any] = CONFIG, model: Any = (), **settings: Any) -> AnyResPreprocessor:
    return anyres_preprocessor(config, GRID, model=dict(model), **settings)


def as_read(medium: Medium, features: torch.Tensor, newline: torch.Tensor) -> torch.Tensor:
    """What ``order`` and ``resample`` say that the model reads of ``(tiles, tokens, dim)``."""
    rows = features.reshape(-1, features.shape[-1])
    if medium.resample is not None:
        weight = torch.from_numpy(medium.resample.weight)
        corners = rows[torch.from_numpy(medium.resample.index)]
        rows = torch.cat([rows, (corners * weight[..., None]).sum(1)])
    # SEPARATOR is -1: the last.
    return torch.cat([rows, newline[None]])[torch.from_numpy(medium.order)]


@pytest.mark.parametrize("most", [None, 4, 1], ids=str)
@pytest.mark.parametrize("size", [*SIZES, (168, 165), (400, 380), (1000, 170)], ids=str)
def test_one_image_equals_hugging_face(
    size: tuple[int, int], most: int | None, model: LlavaOnevisionModel
) -> None:
    """``most`` None: 9, which is not written down in most models."""
    aspect = {} if most is None else {"vision_aspect_ratio": f"anyres_max_{most}"}
    image = picture(*size)
    medium = read(model=aspect)(image)
    np.testing.assert_array_equal(
        medium.pixels, hf(LlavaOnevisionImageProcessorPil, CONFIG, [image])[0]
    )
    generator = torch.Generator().manual_seed(0)
    features = torch.randn((len(medium.pixels), TOKENS, 5), generator=generator)
    newline = torch.randn(5, generator=generator)
    packed, lengths = model.pack_image_features(
        [features],
        torch.tensor([size[::-1]]),
        image_newline=newline,
        vision_aspect_ratio=f"anyres_max_{most or 9}",
    )
    found = as_read(medium, features, newline)
    assert medium.span == lengths[0] == len(medium.order)
    # The kernel of torch adds the four products in another order.
    torch.testing.assert_close(found, packed[0], atol=1e-6, rtol=0)
    assert medium.resample is not None or torch.equal(found, packed[0])


def test_large_images_are_shrunken() -> None:
    assert read()(picture(80, 80)).resample is None
    medium = read()(picture(168, 165))
    assert medium.resample is not None
    index, weight = medium.resample.index, medium.resample.weight
    assert (index.dtype, weight.dtype) == (np.int64, np.float32)
    assert index.shape == weight.shape
    np.testing.assert_allclose(weight.sum(1), 1, atol=1e-6)
    assert index.min() >= TOKENS  # never of the overview
    assert index.max() < len(medium.pixels) * TOKENS
    shrunken = medium.order[medium.order >= len(medium.pixels) * TOKENS]
    assert shrunken.tolist() == [len(medium.pixels) * TOKENS + i for i in range(len(index))]
    assert len(index) <= 9 * TOKENS


@given(st.tuples(st.integers(1, 500), st.integers(1, 500)))
def test_lengths_are_hugging_faces(model: LlavaOnevisionModel, size: tuple[int, int]) -> None:
    assume(max(size) <= 160 * min(size))
    medium = read()(picture(*size))
    newline = torch.tensor([-1.0], dtype=torch.float64)
    packed, _ = model.pack_image_features(
        [numbered(medium)],
        torch.tensor([size[::-1]]),
        image_newline=newline,
        vision_aspect_ratio="anyres_max_9",
    )
    assert len(medium.order) == len(packed[0])
    ends = (packed[0][:, 0] == SEPARATOR).nonzero()[:, 0]
    assert np.flatnonzero(medium.order == SEPARATOR).tolist() == ends.tolist()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_of_several_images_each_is_one_tile(
    size: tuple[int, int], model: LlavaOnevisionModel
) -> None:
    image = picture(*size)
    medium = read()(image, of=2)
    theirs = hf(LlavaOnevisionImageProcessorPil, CONFIG, [[image, image]])
    np.testing.assert_array_equal(medium.pixels, theirs[0])
    newline = torch.tensor([-1.0], dtype=torch.float64)
    packed, _ = model.pack_image_features(
        [numbered(medium)], torch.tensor([size[::-1]]), image_newline=newline
    )
    assert medium.order.tolist() == packed[0][:, 0].tolist()
    edge = max(size)
    left, top, right, bottom = medium.boxes[0].tolist()
    assert (right - left, bottom - top) == (edge, edge)
    assert (-left, -top) == ((edge - size[0]) // 2, (edge - size[1]) // 2)


def test_of_several_images_without_separators() -> None:
    assert SEPARATOR not in read(layout="spatial")(picture(30, 40), of=2).order


def test_frames_equal_images_without_borders(model: LlavaOnevisionModel) -> None:
    """The overview of an image is what the processor of videos does, which needs torchvision."""
    frames = [picture(90, 60), picture(90, 60).rotate(180)]
    medium = read().video(frames)
    theirs = [hf(LlavaOnevisionImageProcessorPil, CONFIG, [frame])[0][0] for frame in frames]
    np.testing.assert_array_equal(medium.pixels, np.stack(theirs))
    pooled = model.apply_pooling(torch.zeros(2, TOKENS, 1))
    assert medium.grid == (4, 4)  # half of 7, rounded up
    assert pooled.shape[1] == 16
    # As get_video_features: all frames, and the separator once.
    assert medium.order.tolist() == [*range(32), SEPARATOR]
    assert (medium.span, medium.kind) == (33, "video")
    assert medium.offsets.tolist() == [list(range(33))]
    with pytest.raises(VideoUnreadable, match="no frames"):
        read().video([])


def test_a_whole_video_is_read_as_the_model_reads_it(model: LlavaOnevisionModel) -> None:
    frames = [picture(30, 30), picture(30, 30).rotate(90)]
    medium = read().video(frames)
    with torch.no_grad():
        pixels = torch.from_numpy(medium.pixels)
        out = model.get_video_features(
            pixels[None], vision_feature_layer=-1, vision_feature_select_strategy="full"
        ).pooler_output[0]
        tower = model.vision_tower(pixels, output_hidden_states=True).hidden_states[-1]
        features = model.apply_pooling(model.multi_modal_projector(tower))
    torch.testing.assert_close(as_read(medium, features, model.image_newline.detach()), out)


def test_which_frames_are_taken() -> None:
    for video, count, fps in (
        (None, 32, None),
        ({**CONFIG, "num_frames": 8}, 8, None),
        ({**CONFIG, "fps": 1}, None, 1.0),
    ):
        sampling = read(video=video).sampling
        assert sampling is not None
        assert (sampling.count, sampling.fps, sampling.rule) == (count, fps, "start")


def test_frames_that_are_prepared_otherwise_are_refused() -> None:
    for change in ({"image_std": 0.5}, {"size": {"height": 30, "width": 30}}, {"resample": 2}):
        with pytest.raises(ModelNotSupported, match="video processor that resizes or normalizes"):
            read(video={**CONFIG, **change})


@pytest.mark.parametrize("aspect", ["pad", "anyres", "anyres_max_", 9])
def test_other_aspect_ratios_are_refused(aspect: object) -> None:
    with pytest.raises(ModelNotSupported, match="vision_aspect_ratio"):
        read(model={"vision_aspect_ratio": aspect})


def test_absurdly_narrow_images_are_refused() -> None:
    with pytest.raises(ImageUnreadable, match="too narrow"):
        read()(picture(1, 30_000))
    with pytest.raises(ImageUnreadable, match="would grow to 30000 x 30000"):
        read()(picture(1, 30_000), of=2)


def test_dict_round_trip() -> None:
    data = json.loads(json.dumps(write_preprocessor(read())))
    assert read_preprocessor(data) == read()


def test_defaults_are_those_of_transformers() -> None:
    assert_defaults(ONEVISION_DEFAULTS, LlavaOnevisionImageProcessorPil)
