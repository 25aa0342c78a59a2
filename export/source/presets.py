"""Short names of models that vtp is made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_SAMPLES = Path(__file__).resolve().parents[2] / "samples"
TINY = _SAMPLES / "tiny_llava"
TINY_GUIDE = _SAMPLES / "tiny_guide"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A model by a short name."""

    source: str
    """Hub id, or the path of a folder that vtp ships."""
    summary: str
    size: tuple[str, str] | None = None
    """Family and size in ``samples.checkpoints.sizes``; None: a sample model, small anywhere."""


PRESETS: dict[str, Preset] = {
    "tiny": Preset(source=str(TINY), summary="the sample model of vtp, trained on drawn scenes"),
    "tiny-guide": Preset(
        source=str(TINY_GUIDE), summary="a smaller sample model, the guide of tiny"
    ),
    "llava15": Preset(
        source="llava-hf/llava-1.5-7b-hf", summary="LLaVA-1.5 with Vicuna 7B", size=("llava", "7b")
    ),
    "llava15-13b": Preset(
        source="llava-hf/llava-1.5-13b-hf",
        summary="LLaVA-1.5 with Vicuna 13B",
        size=("llava", "13b"),
    ),
    "llava-next-7b": Preset(
        source="llava-hf/llava-v1.6-vicuna-7b-hf",
        summary="LLaVA-NeXT with Vicuna 7B",
        size=("llava_next", "7b"),
    ),
    "llava-next-13b": Preset(
        source="llava-hf/llava-v1.6-vicuna-13b-hf",
        summary="LLaVA-NeXT with Vicuna 13B",
        size=("llava_next", "13b"),
    ),
    "llava-next-mistral": Preset(
        source="llava-hf/llava-v1.6-mistral-7b-hf",
        summary="LLaVA-NeXT with Mistral 7B",
        size=("llava_next", "mistral-7b"),
    ),
    "video-llava": Preset(
        source="LanguageBind/Video-LLaVA-7B-hf",
        summary="Video-LLaVA 7B, images and videos",
        size=("video_llava", "7b"),
    ),
    "llava-onevision-0.5b": Preset(
        source="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        summary="LLaVA-OneVision 0.5B, images and videos",
        size=("llava_onevision", "0.5b"),
    ),
    "llava-onevision-7b": Preset(
        source="llava-hf/llava-onevision-qwen2-7b-ov-hf",
        summary="LLaVA-OneVision 7B, images and videos",
        size=("llava_onevision", "7b"),
    ),
    "internvl3-1b": Preset(
        source="OpenGVLab/InternVL3-1B-hf",
        summary="InternVL3 1B, images and videos",
        size=("internvl", "1b"),
    ),
    "internvl3-2b": Preset(
        source="OpenGVLab/InternVL3-2B-hf",
        summary="InternVL3 2B, images and videos",
        size=("internvl", "3-2b"),
    ),
    "internvl3-8b": Preset(
        source="OpenGVLab/InternVL3-8B-hf",
        summary="InternVL3 8B, images and videos",
        size=("internvl", "3-8b"),
    ),
    "qwen2-vl-2b": Preset(
        source="Qwen/Qwen2-VL-2B-Instruct",
        summary="Qwen2-VL 2B, images and videos",
        size=("qwen2_vl", "2b"),
    ),
    "qwen2-vl-7b": Preset(
        source="Qwen/Qwen2-VL-7B-Instruct",
        summary="Qwen2-VL 7B, images and videos",
        size=("qwen2_vl", "7b"),
    ),
    "qwen2.5-vl-3b": Preset(
        source="Qwen/Qwen2.5-VL-3B-Instruct",
        summary="Qwen2.5-VL 3B, images and videos",
        size=("qwen2_5_vl", "3b"),
    ),
    "qwen2.5-vl-7b": Preset(
        source="Qwen/Qwen2.5-VL-7B-Instruct",
        summary="Qwen2.5-VL 7B, images and videos",
        size=("qwen2_5_vl", "7b"),
    ),
}
