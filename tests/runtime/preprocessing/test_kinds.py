"""Every kind of preprocessing: its row in the table, and images of every mode."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vtp.errors import ManifestInvalid, ModelNotSupported
from vtp.export.processors.anyres import NEXT_DEFAULTS, ONEVISION_DEFAULTS, anyres_preprocessor
from vtp.export.processors.fixed import fixed_preprocessor
from vtp.export.processors.patches import VIDEO_DEFAULTS, patch_preprocessor
from vtp.export.processors.settings import DEFAULTS
from vtp.export.processors.tiles import TILE_DEFAULTS, tile_preprocessor
from vtp.runtime.preprocessing import (
    PREPROCESSORS,
    preprocessor_class,
    read_preprocessor,
    write_preprocessor,
)
from vtp.runtime.preprocessing.base import SEPARATOR, Preprocessor

from .mosaics import hf
from .pictures import picture

SMALL = {"size": {"height": 28, "width": 28}}
POINTS = {"image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}
NEXT = SMALL | POINTS | {"crop_size": 28, "image_processor_type": "LlavaNextImageProcessor"}
ONEVISION = SMALL | POINTS | {"image_processor_type": "LlavaOnevisionImageProcessor"}
TILES = SMALL | {"image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": True}
PATCHES = {"image_processor_type": "Qwen2VLImageProcessor"}


@pytest.mark.parametrize("kind", PREPROCESSORS)
def test_every_row_is_a_preprocessor(kind: str) -> None:
    cls = preprocessor_class(kind)
    assert cls.kind == kind
    for name, function in inspect.getmembers(Preprocessor, inspect.isfunction):
        if not name.startswith("_") or name == "__call__":
            theirs = inspect.signature(getattr(cls, name))
            assert list(theirs.parameters) == list(inspect.signature(function).parameters), name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_images_of_every_mode_equal_hugging_face(mode: str) -> None:
    image = picture(70, 45, "RGBA" if "A" in mode else "RGB").convert(mode)
    next_ = anyres_preprocessor(NEXT, (7, 7), model={})(image)
    np.testing.assert_array_equal(next_.pixels, hf(LlavaNextImageProcessorPil, NEXT, [image])[0])
    onevision = anyres_preprocessor(ONEVISION, (7, 7), model={})
    for images, of in (([image], 1), ([[image, image]], 2)):
        np.testing.assert_array_equal(
            onevision(image, of=of).pixels,
            hf(LlavaOnevisionImageProcessorPil, ONEVISION, images)[0],
        )
    tiles = tile_preprocessor(TILES, (7, 7))(image)
    np.testing.assert_array_equal(tiles.pixels, hf(GotOcr2ImageProcessorPil, TILES, [image]))
    patches = patch_preprocessor(PATCHES, model={}, windowed=False)(image)
    expected = hf(Qwen2VLImageProcessorPil, {}, [image])
    np.testing.assert_array_equal(patches.pixels.reshape(expected.shape), expected)


def made() -> dict[str, Preprocessor]:
    clip = SMALL | {"image_processor_type": "VideoLlavaImageProcessor", "crop_size": 28}
    return {
        "fixed": fixed_preprocessor(clip, (2, 2)),
        "anyres": anyres_preprocessor(ONEVISION, (7, 7), model={}),
        "tiles": tile_preprocessor(TILES, (7, 7)),
        "patches": patch_preprocessor(PATCHES, model={}, windowed=True),
    }


ENTRIES = [
    (kind, path)
    for kind, preprocessor in made().items()
    for key, value in write_preprocessor(preprocessor).items()
    for path in ([(key,)] + [(key, inner) for inner in (value if key == "sampling" else ())])
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(st.sampled_from(ENTRIES), JSON)
@settings(max_examples=600)
def test_any_entry_may_be_anything(entry: tuple[str, tuple[str, ...]], value: object) -> None:
    kind, path = entry
    data = write_preprocessor(made()[kind])
    holder = data if len(path) == 1 else data[path[0]]
    holder[path[-1]] = value
    try:
        read = read_preprocessor(data)
    except ManifestInvalid:
        return
    assert read_preprocessor(write_preprocessor(read)) == read


CONFIGS: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Preprocessor]]] = {
    "video llava": (
        DEFAULTS | {"image_processor_type": "VideoLlavaImageProcessor"},
        lambda config: fixed_preprocessor(config, (2, 2)),
    ),
    "next": (
        NEXT_DEFAULTS | NEXT,
        lambda config: anyres_preprocessor(config, (7, 7), model={}),
    ),
    "onevision": (
        ONEVISION_DEFAULTS | ONEVISION | {"num_frames": 3, "fps": None},
        lambda config: anyres_preprocessor(config, (7, 7), model=config),
    ),
    "tiles": (
        TILE_DEFAULTS | TILES | {"initial_shift": True},
        lambda config: tile_preprocessor(config, (7, 7)),
    ),
    "patches": (
        VIDEO_DEFAULTS | PATCHES | {"fps": 2, "min_pixels": 9, "max_pixels": 99},
        lambda config: patch_preprocessor(config, model={"vision_config": config}, windowed=True),
    ),
}


@given(
    st.sampled_from([(name, key) for name, (config, _) in CONFIGS.items() for key in config]),
    JSON,
)
@settings(max_examples=800)
def test_any_setting_of_a_model_may_be_anything(place: tuple[str, str], value: object) -> None:
    config, read = CONFIGS[place[0]]
    with contextlib.suppress(ModelNotSupported):
        read({**config, place[1]: value})


SIZES = [(28, 28), (56, 56), (60, 30), (30, 60), (500, 40), (40, 500), (300, 290)]


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_is_larger_than_the_largest(name: str) -> None:
    config, make = CONFIGS[name]
    preprocessor = make(config)
    videos = range(1, 6) if preprocessor.sampling else ()
    reached = set()
    for size in SIZES:
        image = picture(*size)
        media = [(preprocessor(image, of=of), 0) for of in (1, 2)]
        media += [(preprocessor.video([image] * frames), frames) for frames in videos]
        for medium, frames in media:
            most = preprocessor.largest(medium.tile_tokens, frames)
            others = int((medium.order == SEPARATOR).sum()) + medium.lead * len(medium.pixels)
            assert len(medium.pixels) <= most.tiles
            assert len(medium.order) <= most.rows
            assert others <= most.separators
            if (len(medium.pixels), len(medium.order), others) == most:
                reached.add(frames)
    assert reached == {0, *videos}
