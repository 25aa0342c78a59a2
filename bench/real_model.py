"""A LLaVA of real size with random weights: CLIP-L/14-336 and a decoder like TinyLlama-1.1B.

Speed does not depend on the values of the weights, so nothing has to be downloaded: the folder has
the shapes of the published models, the tokenizer and chat template of the sample model, and
weights drawn from a fixed seed with the standard deviation that transformers initialises with.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..export.source.presets import TINY

SEED = 0
WEIGHTS_BYTES = 2
"""The folder holds float16; both sides of the comparison read it as float32."""

_COPIED = (
    "chat_template.jinja",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_SIDE = 336

DECODER: Mapping[str, int] = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}
"""TinyLlama-1.1B's: 1.1 G parameters."""
LLAVA_7B_DECODER: Mapping[str, int] = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
}
"""LLaVA-1.5-7B's: 6.7 G parameters."""
GUIDE_DECODER: Mapping[str, int] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 14,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}
"""A guide's, about a fifth of it: 0.2 G parameters."""


def real_config(decoder: Mapping[str, int] = DECODER) -> Any:
    """The transformers configuration: a tower of 304 M parameters and the given decoder."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig

    sample = json.loads((TINY / "config.json").read_text(encoding="utf-8"))
    sizes: dict[str, Any] = dict(decoder)
    return LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=1024,
            intermediate_size=4096,
            num_hidden_layers=24,
            num_attention_heads=16,
            image_size=_SIDE,
            patch_size=14,
            projection_dim=768,
        ),
        text_config=LlamaConfig(
            vocab_size=32000,
            **sizes,
            max_position_embeddings=2048,
            rms_norm_eps=1e-5,
            bos_token_id=sample["bos_token_id"],
            eos_token_id=sample["eos_token_id"],
            pad_token_id=sample["pad_token_id"],
            tie_word_embeddings=False,
        ),
        image_token_index=sample["image_token_index"],
        image_seq_length=(_SIDE // 14) ** 2,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
    )


def make_real_model(folder: Path, decoder: Mapping[str, int] = DECODER) -> Path:
    """Write the model folder (2.8 GB; 14 GB at 7B) unless it is there; returns ``folder``."""
    if (folder / "complete").is_file():
        return folder
    import torch
    from transformers import LlavaForConditionalGeneration

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.float16)
    try:
        model = LlavaForConditionalGeneration(real_config(decoder))
    finally:
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    for name in _COPIED:
        shutil.copyfile(TINY / name, folder / name)
    _set_image_size(folder)
    (folder / "complete").touch()
    return folder


def _set_image_size(folder: Path) -> None:
    path = folder / "preprocessor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["crop_size"] = {"height": _SIDE, "width": _SIDE}
    config["size"] = {"shortest_edge": _SIDE}
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    path = folder / "processor_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["patch_size"] = 14
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
