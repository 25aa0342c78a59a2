"""Short names of models that vtp is made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SAMPLES = Path(__file__).resolve().parent.parent / "samples"
TINY = _SAMPLES / "tiny_llava"
TINY_GUIDE = _SAMPLES / "tiny_guide"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model by a short name."""

    source: str
    """Hub id, or the path of a folder that vtp ships."""
    summary: str


PRESETS: dict[str, Preset] = {
    "tiny": Preset(source=str(TINY), summary="the sample model that vtp ships, trained on scenes"),
    "tiny-guide": Preset(
        source=str(TINY_GUIDE), summary="a smaller sample model, which can guide tiny"
    ),
    "llava15": Preset(source="llava-hf/llava-1.5-7b-hf", summary="LLaVA-1.5 with Vicuna 7B"),
    "llava15-13b": Preset(source="llava-hf/llava-1.5-13b-hf", summary="LLaVA-1.5 with Vicuna 13B"),
    "llava-next-7b": Preset(
        source="llava-hf/llava-v1.6-vicuna-7b-hf", summary="LLaVA-NeXT with Vicuna 7B"
    ),
    "llava-next-13b": Preset(
        source="llava-hf/llava-v1.6-vicuna-13b-hf", summary="LLaVA-NeXT with Vicuna 13B"
    ),
    "llava-next-mistral": Preset(
        source="llava-hf/llava-v1.6-mistral-7b-hf", summary="LLaVA-NeXT with Mistral 7B"
    ),
    "video-llava": Preset(
        source="LanguageBind/Video-LLaVA-7B-hf", summary="Video-LLaVA 7B, images and videos"
    ),
    "llava-onevision-0.5b": Preset(
        source="llava-hf/llava-onevision-qwen2-0.5b-ov-hf", summary="LLaVA-OneVision 0.5B"
    ),
    "llava-onevision-7b": Preset(
        source="llava-hf/llava-onevision-qwen2-7b-ov-hf", summary="LLaVA-OneVision 7B"
    ),
    "internvl3-1b": Preset(source="OpenGVLab/InternVL3-1B-hf", summary="InternVL3 1B"),
    "internvl3-2b": Preset(source="OpenGVLab/InternVL3-2B-hf", summary="InternVL3 2B"),
    "internvl3-8b": Preset(source="OpenGVLab/InternVL3-8B-hf", summary="InternVL3 8B"),
    "qwen2-vl-2b": Preset(source="Qwen/Qwen2-VL-2B-Instruct", summary="Qwen2-VL with 2B"),
    "qwen2-vl-7b": Preset(source="Qwen/Qwen2-VL-7B-Instruct", summary="Qwen2-VL with 7B"),
    "qwen2.5-vl-3b": Preset(source="Qwen/Qwen2.5-VL-3B-Instruct", summary="Qwen2.5-VL with 3B"),
    "qwen2.5-vl-7b": Preset(source="Qwen/Qwen2.5-VL-7B-Instruct", summary="Qwen2.5-VL with 7B"),
}
