"""config.json in the forms in which the repositories have it.

Older files hold only what differs from the defaults of transformers' classes, newer ones all. Where
a key has no reason today (a decoder's name, a vocabulary of the vision tower) it stands there all
the same: readers have to bear it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..checkpoints.sizes import Size, Text, Tower
from .repository import Json

Config = Callable[[Size, Mapping[str, int]], Json]

NEXT_GRIDS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
"""Rows and columns of tiles, in the order of the files."""
ONEVISION_GRIDS = tuple((rows, columns) for rows in range(1, 7) for columns in range(1, 7))

_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
"""Dimensions that are left out, being Llama's defaults."""


def pinpoints(side: int, grids: tuple[tuple[int, int], ...]) -> list[list[int]]:
    """Sizes of mosaics in pixels, height first."""
    return [[rows * side, columns * side] for rows, columns in grids]


def _dims(text: Text) -> Json:
    return {
        "hidden_size": text.width,
        "intermediate_size": text.inner,
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "num_key_value_heads": text.kv_heads,
    }


def _but_defaults(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Json:
    return {key: value for key, value in values.items() if defaults.get(key) != value}


def _clip(tower: Tower, default_side: int | None = None) -> Json:
    found = {
        "hidden_size": tower.width,
        "image_size": tower.image,
        "intermediate_size": tower.inner,
        "model_type": "clip_vision_model",
        "num_attention_heads": tower.heads,
        "num_hidden_layers": tower.layers,
        "patch_size": tower.patch,
        "projection_dim": 768,
        "vocab_size": 32000,
    }
    return _but_defaults(found, {"image_size": default_side})


def _llama_text(text: Text, name: str, model: str, **more: Any) -> Json:
    kind = {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}[model]
    return {
        "_name_or_path": name,
        "architectures": [kind],
        **_but_defaults(_dims(text), _LLAMA),
        "max_position_embeddings": text.context,
        "model_type": model,
        "rms_norm_eps": 1e-05,
        "torch_dtype": "float16",
        "vocab_size": text.vocab,
        **more,
    }


def llava15(name: str) -> Config:
    """LLaVA-1.5."""

    def config(size: Size, ids: Mapping[str, int]) -> Json:
        return {
            "architectures": ["LlavaForConditionalGeneration"],
            "ignore_index": -100,
            "image_token_index": ids["<image>"],
            "model_type": "llava",
            "pad_token_id": ids["<pad>"],
            "projector_hidden_act": "gelu",
            "text_config": _llama_text(size.text, name, "llama"),
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.36.0.dev0",
            "vision_config": _clip(size.tower),
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": size.text.vocab,
        }

    return config


def llava_next(text: Callable[[Size, Mapping[str, int]], Json], **more: Any) -> Config:
    """LLaVA-NeXT: without ``tie_word_embeddings``, which the class of its time did not have."""

    def config(size: Size, ids: Mapping[str, int]) -> Json:
        return {
            "architectures": ["LlavaNextForConditionalGeneration"],
            "ignore_index": -100,
            "image_grid_pinpoints": pinpoints(size.tower.image, NEXT_GRIDS),
            "image_token_index": ids["<image>"],
            "model_type": "llava_next",
            "projector_hidden_act": "gelu",
            "text_config": text(size, ids),
            "torch_dtype": "float16",
            "transformers_version": "4.39.0.dev0",
            "use_image_newline_parameter": True,
            "vision_config": _clip(size.tower),
            "vision_feature_layer": -2,
            "vision_feature_select_strategy": "default",
            "vocab_size": size.text.vocab,
            **more,
        }

    return config


def vicuna_text(name: str, **more: Any) -> Callable[[Size, Mapping[str, int]], Json]:
    """A Vicuna inside a LLaVA-NeXT."""
    return lambda size, _: _llama_text(size.text, name, "llama", pad_token_id=0, **more)


def mistral_text(size: Size, _: Mapping[str, int]) -> Json:
    """Mistral 7B Instruct v0.2: its type is bfloat16, the file's float16."""
    name = "mistralai/Mistral-7B-Instruct-v0.2"
    return _llama_text(
        size.text,
        name,
        "mistral",
        rope_theta=1000000.0,
        sliding_window=None,
        torch_dtype="bfloat16",
    )


def llama3_text(size: Size, ids: Mapping[str, int]) -> Json:
    """Llama 3 8B Instruct."""
    return _llama_text(
        size.text,
        "meta-llama/Meta-Llama-3-8B-Instruct",
        "llama",
        bos_token_id=ids["<|begin_of_text|>"],
        eos_token_id=ids["<|eot_id|>"],
        rope_theta=500000.0,
        torch_dtype="bfloat16",
    )


def video_llava(size: Size, ids: Mapping[str, int]) -> Json:
    """Video-LLaVA: one description for both towers, whose side is CLIP's default."""
    text = _llama_text(size.text, "lmsys/vicuna-7b-v1.5", "llama", pad_token_id=0)
    return {
        "architectures": ["VideoLlavaForConditionalGeneration"],
        "ignore_index": -100,
        "image_token_index": ids["<image>"],
        "model_type": "video_llava",
        "pad_token_id": ids["<pad>"],
        "projector_hidden_act": "gelu",
        "text_config": text,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "transformers_version": "4.41.0.dev0",
        "video_token_index": ids["<video>"],
        "vision_config": _clip(size.tower, default_side=224),
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "vocab_size": size.text.vocab,
    }


def onevision(name: str) -> Config:
    """LLaVA-OneVision: where the decoder ties its head, its part says so, the whole denies it."""

    def config(size: Size, ids: Mapping[str, int]) -> Json:
        text, tower = size.text, size.tower
        return {
            "architectures": ["LlavaOnevisionForConditionalGeneration"],
            "ignore_index": -100,
            "image_grid_pinpoints": pinpoints(tower.image, ONEVISION_GRIDS),
            "image_token_index": ids["<image>"],
            "model_type": "llava_onevision",
            "projector_hidden_act": "gelu",
            "text_config": {
                "_name_or_path": name,
                "architectures": ["Qwen2ForCausalLM"],
                "bos_token_id": ids["<|endoftext|>"],
                "eos_token_id": ids["<|im_end|>"],
                **_dims(text),
                "max_window_layers": text.layers,
                "model_type": "qwen2",
                "rope_theta": 1000000.0,
                "sliding_window": 32768,
                **({"tie_word_embeddings": True} if text.tied else {}),
                "torch_dtype": "bfloat16",
                "vocab_size": text.vocab,
            },
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.45.0.dev0",
            "use_image_newline_parameter": True,
            "video_token_index": ids["<video>"],
            "vision_aspect_ratio": "anyres_max_9",
            "vision_config": {
                "hidden_size": tower.width,
                "image_size": tower.image,
                "intermediate_size": tower.inner,
                "model_type": "siglip_vision_model",
                "num_attention_heads": tower.heads,
                "num_hidden_layers": tower.layers,
                "patch_size": tower.patch,
                "vision_use_head": False,
            },
            "vision_feature_layer": -1,
            "vision_feature_select_strategy": "full",
        }

    return config


def internvl3(size: Size, ids: Mapping[str, int]) -> Json:
    """InternVL3: positions that turn more slowly in longer prompts; ``tie_word_embeddings``
    nowhere."""
    text, tower = size.text, size.tower
    return {
        "architectures": ["InternVLForConditionalGeneration"],
        "downsample_ratio": 0.5,
        "image_seq_length": (tower.image // tower.patch // 2) ** 2,
        "image_token_id": ids["<IMG_CONTEXT>"],
        "model_type": "internvl",
        "projector_hidden_act": "gelu",
        "text_config": {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "hidden_act": "silu",
            **_dims(text),
            "initializer_range": 0.02,
            "max_position_embeddings": text.context,
            "max_window_layers": 70,
            "model_type": "qwen2",
            "rms_norm_eps": 1e-06,
            "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"},
            "rope_theta": 1000000.0,
            "sliding_window": None,
            "torch_dtype": "bfloat16",
            "use_cache": True,
            "use_sliding_window": False,
            "vocab_size": text.vocab,
        },
        "torch_dtype": "bfloat16",
        "transformers_version": "4.52.0.dev0",
        "vision_config": {
            "architectures": ["InternVisionModel"],
            "attention_bias": True,
            "attention_dropout": 0.0,
            "dropout": 0.0,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "hidden_size": tower.width,
            "image_size": [tower.image, tower.image],
            "initializer_factor": 0.1,
            "initializer_range": 1e-10,
            "intermediate_size": tower.inner,
            "layer_norm_eps": 1e-06,
            "layer_scale_init_value": 0.1,
            "model_type": "internvl_vision",
            "norm_type": "layer_norm",
            "num_attention_heads": tower.heads,
            "num_channels": 3,
            "num_hidden_layers": tower.layers,
            "patch_size": [tower.patch, tower.patch],
            "projection_dropout": 0.0,
            "torch_dtype": "bfloat16",
            "use_absolute_position_embeddings": True,
            "use_mask_token": False,
            "use_mean_pooling": True,
            "use_qk_norm": False,
        },
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
    }


def _qwen(kind: str, model: str, windows: int, vision: Callable[[Size], Json]) -> Config:
    def config(size: Size, ids: Mapping[str, int]) -> Json:
        text = size.text
        pairs = text.width // text.heads // 2
        sections = [pairs // 4, (pairs - pairs // 4) // 2, (pairs - pairs // 4) // 2]
        return {
            "architectures": [model],
            "attention_dropout": 0.0,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "vision_start_token_id": ids["<|vision_start|>"],
            "vision_end_token_id": ids["<|vision_end|>"],
            "vision_token_id": ids["<|vision_pad|>"],
            "image_token_id": ids["<|image_pad|>"],
            "video_token_id": ids["<|video_pad|>"],
            "hidden_act": "silu",
            **_dims(text),
            "initializer_range": 0.02,
            "max_position_embeddings": text.context,
            "max_window_layers": windows,
            "model_type": kind,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": text.tied,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.41.2",
            "use_cache": True,
            "use_sliding_window": False,
            "vision_config": vision(size),
            "rope_scaling": {"type": "mrope", "mrope_section": sections},
            "vocab_size": text.vocab,
        }

    return config


def _qwen2_tower(size: Size) -> Json:
    return {
        "depth": size.tower.layers,
        "embed_dim": size.tower.width,
        "mlp_ratio": 4,
        "num_heads": size.tower.heads,
        "in_chans": 3,
        "hidden_size": size.text.width,
        "patch_size": size.tower.patch,
        "spatial_merge_size": 2,
        "spatial_patch_size": size.tower.patch,
        "temporal_patch_size": 2,
    }


def _qwen25_tower(size: Size) -> Json:
    depth = size.tower.layers
    step = max(2, depth // 4)
    return {
        "depth": depth,
        "hidden_act": "silu",
        "hidden_size": size.tower.width,
        "intermediate_size": size.tower.inner,
        "num_heads": size.tower.heads,
        "in_chans": 3,
        "out_hidden_size": size.text.width,
        "patch_size": size.tower.patch,
        "spatial_merge_size": 2,
        "spatial_patch_size": size.tower.patch,
        "window_size": 112,
        "fullatt_block_indexes": list(range(step - 1, depth, step)),
        "tokens_per_second": 2,
        "temporal_patch_size": 2,
    }


def qwen2_vl() -> Config:
    """Qwen2-VL: the decoder's settings stand beside those of the whole."""
    return _qwen("qwen2_vl", "Qwen2VLForConditionalGeneration", 28, _qwen2_tower)


def qwen2_5_vl(windows: int) -> Config:
    """Qwen2.5-VL."""
    return _qwen("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration", windows, _qwen25_tower)
