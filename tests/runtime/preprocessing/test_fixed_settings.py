"""Which image processors are read and which refused; ``test_fixed`` compares the results."""

import json

import pytest

from vtp.errors import ModelNotSupported
from vtp.export.processors.fixed import SIGLIP_DEFAULTS, fixed_preprocessor
from vtp.export.processors.settings import DEFAULTS
from vtp.runtime.preprocessing.fixed import ImagePreprocessor


def test_llava_1_5() -> None:
    """The file of llava-hf/llava-1.5-7b-hf."""
    config = json.loads(
        """{"crop_size": {"height": 336, "width": 336}, "do_center_crop": true,
        "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "CLIPImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711], "processor_class": "LlavaProcessor",
        "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}}"""
    )
    assert fixed_preprocessor(config, (24, 24)) == ImagePreprocessor(
        height=336,
        width=336,
        resize="shortest_edge",
        resize_to=336,
        resample="bicubic",
        crop=True,
        rescale=1 / 255,
        mean=(0.48145466, 0.4578275, 0.40821073),
        std=(0.26862954, 0.26130258, 0.27577711),
        grid=(24, 24),
    )


@pytest.mark.parametrize(
    "kind", ["CLIPImageProcessorPil", "LlavaImageProcessorPil", "SiglipImageProcessorPil"]
)
def test_defaults_are_those_of_transformers(kind: str) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    classes = (CLIPImageProcessorPil, LlavaImageProcessorPil, SiglipImageProcessorPil)
    processor = {c.__name__: c for c in classes}[kind]
    for name, value in (SIGLIP_DEFAULTS if "Siglip" in kind else DEFAULTS).items():
        theirs = getattr(processor, name, None) or False
        if name == "crop_size" and not theirs:
            continue  # there is no crop
        assert (tuple(theirs) if isinstance(theirs, list) else theirs) == value


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"image_processor_type": "ViTImageProcessor"}, "'ViTImageProcessor' is not"),
        ({"image_processor_type": "LlavaNextImageProcessor"}, "LlavaNext"),
        ({"image_processor_type": 3}, "processor 3"),
        ({"size": {"shortest_edge": 336, "longest_edge": 700}}, "size"),
        ({"size": "336"}, "size '336'"),
        ({"size": {"shortest_edge": 0}}, "resize_to = 0"),
        ({"crop_size": {"shortest_edge": 336}}, "crop_size"),
        ({"crop_size": -3}, "height = -3"),
        ({"do_center_crop": False}, "not of one fixed size"),
        ({"do_center_crop": False, "do_resize": False}, "not of one fixed size"),
        ({"do_pad": True}, "do_pad"),
        ({"resample": 5}, "resample 5"),
        ({"resample": None}, "resample None"),
        ({"resample": "bicubic"}, "resample 'bicubic'"),
        ({"image_mean": [0.5, 0.5]}, "image_mean"),
        ({"image_mean": "half"}, "image_mean"),
        ({"image_mean": None}, "image_mean None"),
        ({"size": None}, "size None"),
        ({"image_std": [0.5, 0, 0.5]}, "std"),
        ({"rescale_factor": "1/255"}, "rescale"),
    ],
    ids=str,
)
def test_what_cannot_be_reproduced_is_refused(config: dict, words: str) -> None:
    with pytest.raises(ModelNotSupported, match=words):
        fixed_preprocessor(config, (24, 24))
