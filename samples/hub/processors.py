"""preprocessor_config.json, processor_config.json and their like, as the repositories have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints.sizes import Size
from .configs import NEXT_GRIDS, ONEVISION_GRIDS, pinpoints
from .repository import Json

Processors = Callable[[Size], Mapping[str, Json]]

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_HALF = [0.5, 0.5, 0.5]
_RESCALE = 0.00392156862745098
_IMAGE, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
_VIDEO = "video_preprocessor_config.json"


def _clip(side: int, kind: str, owner: str, **more: Any) -> Json:
    return {
        "crop_size": {"height": side, "width": side},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": _CLIP_MEAN,
        "image_processor_type": kind,
        "image_std": _CLIP_STD,
        "processor_class": owner,
        "resample": 3,
        "rescale_factor": _RESCALE,
        "size": {"shortest_edge": side},
        **more,
    }


def _owner(name: str, size: Size, **more: Any) -> Json:
    return {
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": size.tower.patch,
        "processor_class": name,
        "vision_feature_select_strategy": "default",
        **more,
    }


def llava15(size: Size) -> Mapping[str, Json]:
    """LLaVA-1.5."""
    name = "LlavaProcessor"
    images = _clip(size.tower.image, "CLIPImageProcessor", name)
    return {_IMAGE: images, _PROCESSOR: _owner(name, size)}


def llava_next(size: Size) -> Mapping[str, Json]:
    """LLaVA-NeXT."""
    name = "LlavaNextProcessor"
    more = {
        "aspect_ratio_setting": "anyres",
        "do_pad": True,
        "image_grid_pinpoints": pinpoints(size.tower.image, NEXT_GRIDS),
    }
    images = _clip(size.tower.image, "LlavaNextImageProcessor", name, **more)
    return {_IMAGE: images, _PROCESSOR: _owner(name, size)}


def video_llava(size: Size) -> Mapping[str, Json]:
    """Video-LLaVA: one file for images and frames."""
    name = "VideoLlavaProcessor"
    images = _clip(size.tower.image, "VideoLlavaImageProcessor", name)
    return {_IMAGE: images, _PROCESSOR: _owner(name, size, video_token="<video>")}


def onevision(size: Size) -> Mapping[str, Json]:
    """LLaVA-OneVision."""
    side, owner = size.tower.image, "LlavaOnevisionProcessor"
    shared = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": _HALF,
        "image_std": _HALF,
        "processor_class": owner,
        "resample": 3,
        "rescale_factor": _RESCALE,
        "size": {"height": side, "width": side},
    }
    return {
        _IMAGE: {
            **shared,
            "do_pad": True,
            "image_grid_pinpoints": pinpoints(side, ONEVISION_GRIDS),
            "image_processor_type": "LlavaOnevisionImageProcessor",
        },
        _VIDEO: {**shared, "video_processor_type": "LlavaOnevisionVideoProcessor"},
        _PROCESSOR: {
            "image_token": "<image>",
            "num_image_tokens": (side // size.tower.patch) ** 2,
            "processor_class": owner,
            "video_token": "<video>",
            "vision_feature_select_strategy": "full",
        },
    }


def internvl3(size: Size) -> Mapping[str, Json]:
    """InternVL3: nulls for what is not done; cutting into tiles is off in the file and on in the
    processor's own call."""
    side, patch = size.tower.image, size.tower.patch
    return {
        _IMAGE: {
            "crop_size": None,
            "crop_to_patches": False,
            "data_format": "channels_first",
            "default_to_square": True,
            "device": None,
            "do_center_crop": None,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "image_std": [0.229, 0.224, 0.225],
            "input_data_format": None,
            "max_patches": 12,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "rescale_factor": _RESCALE,
            "return_tensors": None,
            "size": {"height": side, "width": side},
        },
        _PROCESSOR: {
            "image_seq_length": (side // patch // 2) ** 2,
            "processor_class": "InternVLProcessor",
        },
    }


def qwen(owner: str) -> Processors:
    """Qwen2-VL and Qwen2.5-VL: nothing but ``preprocessor_config.json``, and that is short."""

    def processors(size: Size) -> Mapping[str, Json]:
        return {
            _IMAGE: {
                "min_pixels": 3136,
                "max_pixels": 12845056,
                "patch_size": size.tower.patch,
                "temporal_patch_size": 2,
                "merge_size": 2,
                "image_mean": _CLIP_MEAN,
                "image_std": _CLIP_STD,
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": owner,
            }
        }

    return processors
