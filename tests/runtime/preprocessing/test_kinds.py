"""Every kind of preprocessing: its row in the table, and images of every mode."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
    LlavaOnevisionImageProcessorPil,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from vtp.runtime.preprocessing import PREPROCESSORS, preprocessor_class
from vtp.runtime.preprocessing.anyres import AnyResPreprocessor
from vtp.runtime.preprocessing.base import Preprocessor
from vtp.runtime.preprocessing.patches import PatchPreprocessor
from vtp.runtime.preprocessing.tiles import TilePreprocessor

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
    next_ = AnyResPreprocessor.from_hf_config(NEXT, (7, 7), model={})(image)
    np.testing.assert_array_equal(next_.pixels, hf(LlavaNextImageProcessorPil, NEXT, [image])[0])
    onevision = AnyResPreprocessor.from_hf_config(ONEVISION, (7, 7), model={})
    for images, of in (([image], 1), ([[image, image]], 2)):
        np.testing.assert_array_equal(
            onevision(image, of=of).pixels,
            hf(LlavaOnevisionImageProcessorPil, ONEVISION, images)[0],
        )
    tiles = TilePreprocessor.from_hf_config(TILES, (7, 7))(image)
    np.testing.assert_array_equal(tiles.pixels, hf(GotOcr2ImageProcessorPil, TILES, [image]))
    patches = PatchPreprocessor.from_hf_config(PATCHES, model={"model_type": "qwen2_vl"})(image)
    np.testing.assert_array_equal(patches.pixels[0], hf(Qwen2VLImageProcessorPil, {}, [image]))
