"""Model families, one file each; a new family is a file and a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelNotSupported
from ...registry import load_row

if TYPE_CHECKING:
    from .base import Family

FAMILIES: dict[str, str] = {
    "llava": "llava:Llava",
    "llava_next": "llava_next:LlavaNext",
    "video_llava": "video_llava:VideoLlava",
    "llava_onevision": "llava_onevision:LlavaOneVision",
    "internvl": "internvl:InternVl",
    "qwen2_vl": "qwen2_vl:Qwen2VL",
    "qwen2_5_vl": "qwen2_5_vl:Qwen25VL",
}


def make_family(model_type: str) -> Family:
    """The family of a config.json's ``model_type``.

    Raises:
        ModelNotSupported: no such family.
    """
    if model_type not in FAMILIES:
        raise ModelNotSupported(f"model family {model_type!r}", FAMILIES)
    family: Family = load_row(FAMILIES[model_type], __name__)()
    return family
