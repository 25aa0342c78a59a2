"""Families that `make_checkpoint.py` knows, in the configurations of transformers' own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .sizes import Size


@dataclass(frozen=True, kw_only=True)
class Published:
    """What all sizes of a family share."""

    model: str
    """transformers' class."""
    config: Callable[[Size, Mapping[str, int]], dict[str, Any]]
    """Keyword arguments of its configuration class, from a size and token ids."""
    tokens: Mapping[str, int]
    """Special tokens and their published ids."""
    turn: str
    """What stands for a picture in a prompt."""
    video: str = ""
    """What stands for a video; empty: the family takes none."""
    processor: str
    """transformers' processor class."""
    images: Callable[[Size], dict[str, Any]]
    """preprocessor_config.json."""


_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
_HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def _images(kind: str, stats: tuple[list[float], list[float]], **more: Any) -> dict[str, Any]:
    return {
        "image_processor_type": kind,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": stats[0],
        "image_std": stats[1],
        "resample": 3,
        "rescale_factor": 1 / 255,
        **more,
    }


def _clip_images(kind: str, **more: Any) -> Callable[[Size], dict[str, Any]]:
    def images(size: Size) -> dict[str, Any]:
        side = size.tower.image
        crop = {"height": side, "width": side}
        edge = {"shortest_edge": side}
        return _images(kind, _CLIP, do_center_crop=True, crop_size=crop, size=edge, **more)

    return images


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _pinpoints(side: int, grids: list[tuple[int, int]]) -> list[list[int]]:
    return [[rows * side, columns * side] for rows, columns in grids]


_NEXT_GRIDS = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]
_ONEVISION_GRIDS = [(rows, columns) for rows in range(1, 7) for columns in range(1, 7)]


def _llava(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    tower = size.tower.config("clip_vision_model", hidden_act="quick_gelu")
    return {
        "vision_config": {**tower, "projection_dim": 768},
        "text_config": size.text.config(),
        "image_token_index": ids["<image>"],
        "image_seq_length": (size.tower.image // size.tower.patch) ** 2,
    }


def _llava_next(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    pinpoints = _pinpoints(size.tower.image, _NEXT_GRIDS)
    return {**_llava(size, ids), "image_grid_pinpoints": pinpoints}


def _video_llava(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    tokens = (size.tower.image // size.tower.patch) ** 2
    video = {"video_token_index": ids["<video>"], "video_seq_length": 8 * (tokens + 1)}
    return {**_llava(size, ids), **video}


def _llava_onevision(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    tower = size.tower.config("siglip_vision_model", vision_use_head=False)
    return {
        "vision_config": tower,
        "text_config": size.text.config(),
        "image_token_index": ids["<image>"],
        "video_token_index": ids["<video>"],
        "image_grid_pinpoints": _pinpoints(size.tower.image, _ONEVISION_GRIDS),
        "tie_word_embeddings": size.text.tied,
    }


def _internvl(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    large = size.tower.width > 2048
    norms = {"norm_type": "rms_norm", "use_qk_norm": True} if large else {"attention_bias": True}
    tower = size.tower.config("internvl_vision", **norms)
    side, patch = size.tower.image, size.tower.patch
    return {
        "vision_config": {**tower, "image_size": [side, side], "patch_size": [patch, patch]},
        "text_config": size.text.config(),
        "image_token_id": ids["<IMG_CONTEXT>"],
        "image_seq_length": (side // patch // 2) ** 2,
        "tie_word_embeddings": size.text.tied,
    }


def _qwen(size: Size, ids: Mapping[str, int], vision: dict[str, Any]) -> dict[str, Any]:
    # Of half a head's pairs a quarter turns by time, the rest by row and column.
    pairs = size.text.width // size.text.heads // 2
    time = pairs // 4
    sections = [time, (pairs - time) // 2, (pairs - time) // 2]
    return {
        "vision_config": {"patch_size": size.tower.patch, **vision},
        "text_config": size.text.config(rope={"mrope_section": sections}),
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": size.text.tied,
    }


def _qwen2_vl(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    tower = size.tower
    vision = {
        "model_type": "qwen2_vl_vision",
        "depth": tower.layers,
        "embed_dim": tower.width,
        "num_heads": tower.heads,
        "mlp_ratio": tower.inner // tower.width,
        "hidden_size": size.text.width,
    }
    config = _qwen(size, ids, vision)
    config["text_config"]["model_type"] = "qwen2_vl_text"
    return config


def _qwen2_5_vl(size: Size, ids: Mapping[str, int]) -> dict[str, Any]:
    tower = size.tower
    vision = {
        "model_type": "qwen2_5_vl_vision",
        "depth": tower.layers,
        "hidden_size": tower.width,
        "num_heads": tower.heads,
        "intermediate_size": tower.inner,
        "out_hidden_size": size.text.width,
        # A quarter of the blocks, the last one among them, looks beyond its window.
        "fullatt_block_indexes": list(range(tower.layers // 4 - 1, tower.layers, tower.layers // 4))
        if tower.layers >= 8
        else [tower.layers - 1],
    }
    config = _qwen(size, ids, vision)
    config["text_config"]["model_type"] = "qwen2_5_vl_text"
    return config


def _qwen_images(size: Size) -> dict[str, Any]:
    pixels = {"min_pixels": 4 * 28 * 28, "max_pixels": 16384 * 28 * 28}
    patch = {"patch_size": size.tower.patch, "temporal_patch_size": 2, "merge_size": 2}
    return _images("Qwen2VLImageProcessor", _CLIP, **pixels, **patch)


_QWEN_TOKENS = {
    "<|vision_start|>": 151652,
    "<|vision_end|>": 151653,
    "<|image_pad|>": 151655,
    "<|video_pad|>": 151656,
}
_QWEN_TURN = "<|vision_start|><|image_pad|><|vision_end|>"

FAMILIES: dict[str, Published] = {
    "llava": Published(
        model="LlavaForConditionalGeneration",
        config=_llava,
        tokens={"<image>": 32000},
        turn="<image>\n",
        processor="LlavaProcessor",
        images=_clip_images("CLIPImageProcessor"),
    ),
    "llava_next": Published(
        model="LlavaNextForConditionalGeneration",
        config=_llava_next,
        tokens={"<image>": 32000},
        turn="<image>\n",
        processor="LlavaNextProcessor",
        images=lambda size: {
            **_clip_images("LlavaNextImageProcessor")(size),
            "image_grid_pinpoints": _pinpoints(size.tower.image, _NEXT_GRIDS),
        },
    ),
    "video_llava": Published(
        model="VideoLlavaForConditionalGeneration",
        config=_video_llava,
        tokens={"<image>": 32000, "<video>": 32001},
        turn="<image>\n",
        video="<video>\n",
        processor="VideoLlavaProcessor",
        images=_clip_images("VideoLlavaImageProcessor"),
    ),
    "llava_onevision": Published(
        model="LlavaOnevisionForConditionalGeneration",
        config=_llava_onevision,
        tokens={"<image>": 151646, "<video>": 151647},
        turn="<image>\n",
        video="<video>\n",
        processor="LlavaOnevisionProcessor",
        images=lambda size: _images(
            "LlavaOnevisionImageProcessor",
            _HALF,
            size=_square(size.tower.image),
            image_grid_pinpoints=_pinpoints(size.tower.image, _ONEVISION_GRIDS),
        ),
    ),
    "internvl": Published(
        model="InternVLForConditionalGeneration",
        config=_internvl,
        tokens={"<img>": 151665, "</img>": 151666, "<IMG_CONTEXT>": 151667},
        turn="<IMG_CONTEXT>\n",
        video="<video>\n",
        processor="InternVLProcessor",
        images=lambda size: _images(
            "GotOcr2ImageProcessor",
            _IMAGENET,
            size=_square(size.tower.image),
            crop_to_patches=True,
            min_patches=1,
            max_patches=12,
        ),
    ),
    "qwen2_vl": Published(
        model="Qwen2VLForConditionalGeneration",
        config=_qwen2_vl,
        tokens=_QWEN_TOKENS,
        turn=_QWEN_TURN,
        video=_QWEN_TURN.replace("image", "video"),
        processor="Qwen2VLProcessor",
        images=_qwen_images,
    ),
    "qwen2_5_vl": Published(
        model="Qwen2_5_VLForConditionalGeneration",
        config=_qwen2_5_vl,
        tokens=_QWEN_TOKENS,
        turn=_QWEN_TURN,
        video=_QWEN_TURN.replace("image", "video"),
        processor="Qwen2_5_VLProcessor",
        images=_qwen_images,
    ),
}
"""Family -> what its sizes share."""
