"""Small LLaVAs with random weights, one for each thing that a decoder or tower may do otherwise."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from vtp.export import ExportOptions, export_model
from vtp.export.source.presets import TINY
from vtp.export.targets import TARGETS, make_target
from vtp.runtime.bundle.keep import Keeps

# On models this small, several threads mostly wait for each other.
torch.set_num_threads(1)

_TEXT = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    # Wide enough that greedy choices do not hang on rounding.
    "initializer_range": 0.2,
}
_VISION = {
    "image_size": 48,
    "patch_size": 4,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

_ONE, _TWO = ({"num_hidden_layers": layers} for layers in (1, 2))

VARIANTS: dict[str, tuple[type, dict[str, Any], dict[str, Any]]] = {
    "grouped-query": (LlamaConfig, {}, {}),
    "multi-head": (LlamaConfig, {"num_key_value_heads": 4, **_TWO}, {}),
    "tied-head": (
        LlamaConfig,
        {"tie_word_embeddings": True, **_TWO},
        {"tie_word_embeddings": True},
    ),
    "wide-heads": (LlamaConfig, {"head_dim": 32, **_TWO}, {}),
    "llama3-rope": (LlamaConfig, {"rope_parameters": _ROPE, **_TWO}, {}),
    "mistral": (MistralConfig, {"sliding_window": None, **_TWO}, {}),
    "qwen2": (Qwen2Config, {"use_sliding_window": False, **_TWO}, {}),
    "last-layer": (LlamaConfig, {}, {"vision_feature_layer": -1}),
    "second-layer": (LlamaConfig, {}, {"vision_feature_layer": 2}),
    # For what a tower does: as few layers as show it.
    "shallow": (LlamaConfig, _ONE, {}),
    # A tower without [CLS].
    "siglip": (LlamaConfig, _ONE, {"vision_feature_select_strategy": "full"}),
    "deep": (LlamaConfig, {"num_hidden_layers": 6}, {}),
}
_TOWERS = {"shallow": {"num_hidden_layers": 3}, "siglip": {"num_hidden_layers": 3}}


def _make(folder: Path, variant: str) -> Path:
    text_class, text, outer = VARIANTS[variant]
    tiny = AutoConfig.from_pretrained(TINY)
    tower = SiglipVisionConfig if variant == "siglip" else CLIPVisionConfig
    config = LlavaConfig(
        vision_config=tower(**_VISION | _TOWERS.get(variant, {})),
        text_config=text_class(**{**_TEXT, **text, "eos_token_id": tiny.text_config.eos_token_id}),
        image_token_id=tiny.image_token_id,
        **{"vision_feature_layer": -2, **outer},
    )
    torch.manual_seed(sum(map(ord, variant)))
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(TINY / name, folder)
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = TINY / name
        if path.is_file():
            (folder / name).write_text(
                path.read_text().replace("128", "48").replace(": 8,", ": 4,")
            )
    return folder


@pytest.fixture(scope="session")
def llava(made_once: Any) -> Callable[[str], Path]:
    """Folder of a variant's Hugging Face model, made once."""
    return lambda variant: made_once(f"llava-{variant}", lambda out: _make(out, variant))


def _targets(dtype: str, symmetric: bool) -> tuple[str, ...]:
    """Every target that has them."""
    made = map(make_target, TARGETS)
    return tuple(t.name for t in made if dtype in t.dtypes and (symmetric or t.zero_points))


@pytest.fixture(scope="session")
def exported(llava: Callable[[str], Path], made_once: Any) -> Callable[..., Path]:
    """Bundle of a variant with a method, in every target that takes it, made once."""

    def bundle(
        variant: str,
        method: str = "fastervlm",
        *,
        keep: Keeps | None = 0.25,
        stages: tuple[str, ...] = (),
        positions: str | None = None,
        dtype: str = "float32",
        weights: str | None = None,
        block: int = 32,
        symmetric: bool = True,
        **parameters: Any,
    ) -> Path:
        options = ExportOptions(
            method=method,
            parameters=parameters,
            stages=stages,
            positions=positions,
            dtype=dtype,
            weights=weights,
            block=block,
            symmetric=symmetric,
            targets=_targets(dtype, symmetric),
            keep=None if method == "none" else keep,
        )
        key = hashlib.sha256(repr((variant, options)).encode()).hexdigest()[:12]
        return Path(
            made_once(
                f"{variant}-{method.replace(':', '-')}-{key}",
                lambda out: export_model(str(llava(variant)), out, options),
            )
        )

    return bundle
