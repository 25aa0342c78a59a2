"""Models in the form of their authors' own code, and the repositories that hold them converted.

What is here was published by Haotian Liu et al., the LLaVA-NeXT, Video-LLaVA and InternVL teams;
their folders look like those of transformers, but name classes that only their own code has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...errors import OriginalLayout

_WIDTHS: dict[str, dict[Any, str]] = {
    "LLaVA-1.5": {
        4096: "llava-hf/llava-1.5-7b-hf",
        5120: "llava-hf/llava-1.5-13b-hf",
    },
    "LLaVA-NeXT (1.6)": {
        4096: "llava-hf/llava-v1.6-vicuna-7b-hf",
        5120: "llava-hf/llava-v1.6-vicuna-13b-hf",
        7168: "llava-hf/llava-v1.6-34b-hf",
    },
    "LLaVA-NeXT with Qwen": {8192: "llava-hf/llava-next-72b-hf"},
    "LLaVA-NeXT-Interleave": {
        896: "llava-hf/llava-interleave-qwen-0.5b-hf",
        3584: "llava-hf/llava-interleave-qwen-7b-hf",
    },
    "LLaVA-OneVision": {
        896: "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        3584: "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        8192: "llava-hf/llava-onevision-qwen2-72b-ov-hf",
    },
}
"""Model -> width of its decoder -> converted repository; the first stands for widths not named."""
_LLAMA3_ROWS = 128_000
"""A vocabulary from here on is Llama 3's."""


def check_original(config: Mapping[str, Any]) -> None:
    """Refuse the contents of a config.json that is of an original repository.

    Raises:
        OriginalLayout: naming the converted repository.
    """
    names = config.get("architectures")
    classes = [str(name) for name in names] if isinstance(names, list) else []
    kind = str(config.get("model_type"))
    if kind == "internvl_chat" or "InternVLChatModel" in classes:
        raise OriginalLayout("an InternVL", _internvl(config))
    parts = {"mm_vision_tower", "mm_image_tower", "mm_projector_type"} & set(config)
    if not (
        kind in ("llava_llama", "llava_mistral", "llava_qwen")
        or any(re.fullmatch(r"Llava\w+ForCausalLM", name) for name in classes)
        or (parts and "vision_config" not in config)
    ):
        return
    if "llm_cfg" in config:  # VILA's, which takes the same names; nobody has converted it
        return
    if "mm_video_tower" in config:
        raise OriginalLayout("Video-LLaVA", "LanguageBind/Video-LLaVA-7B-hf")
    if kind == "llava_mistral" or "LlavaMistralForCausalLM" in classes:
        raise OriginalLayout("LLaVA-NeXT (1.6)", "llava-hf/llava-v1.6-mistral-7b-hf")
    qwen = kind == "llava_qwen" or "LlavaQwenForCausalLM" in classes
    tiles = "anyres" in str(config.get("image_aspect_ratio"))
    if tiles and not qwen and int(config.get("vocab_size") or 0) >= _LLAMA3_ROWS:
        raise OriginalLayout("LLaVA-NeXT (1.6)", "llava-hf/llama3-llava-next-8b-hf")
    by_tiles = "LLaVA-NeXT (1.6)" if tiles else "LLaVA-1.5"
    name = _of_qwen(config) if qwen else by_tiles
    known = _WIDTHS[name]
    raise OriginalLayout(name, known.get(config.get("hidden_size"), next(iter(known.values()))))


def _of_qwen(config: Mapping[str, Any]) -> str:
    """Which of the models with a Qwen decoder: their classes have one name."""
    if "clip-vit" in str(config.get("mm_vision_tower")):
        return "LLaVA-NeXT with Qwen"
    plain = config.get("image_aspect_ratio") == "anyres"
    return "LLaVA-NeXT-Interleave" if plain else "LLaVA-OneVision"


def _internvl(config: Mapping[str, Any]) -> str:
    text = config.get("llm_config")
    width = text.get("hidden_size") if isinstance(text, Mapping) else None
    size = {896: "1B", 1536: "2B", 3584: "8B", 5120: "14B", 8192: "78B"}.get(width, "8B")
    return (
        f"OpenGVLab/InternVL3-{size}-hf (InternVL3.5 has such repositories too, with names that "
        "end in -HF; the authors of 2 and 2.5 offer none)"
    )
