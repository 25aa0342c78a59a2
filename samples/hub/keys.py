"""Names of tensors as they stand in the published files: those of transformers before version 5."""

from __future__ import annotations


def llava(name: str) -> str:
    """Of the LLaVAs: ``language_model.model.*``, ``vision_tower.vision_model.*``."""
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    for tower in ("vision_tower", "image_tower", "video_tower"):
        name = name.replace(f"{tower}.", f"{tower}.vision_model.", 1)
    return name.replace("language_model.", "language_model.model.", 1)


def internvl(name: str) -> str:
    """Of InternVL: as LLaVA's, but the tower has no further level."""
    return llava(name).replace("vision_tower.vision_model.", "vision_tower.", 1)


def qwen(name: str) -> str:
    """Of Qwen2-VL and Qwen2.5-VL: ``visual.*`` and ``model.*``."""
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.", 1)
