"""LLaVA-OneVision: SigLIP, tiles of any resolution, frames of a video pooled (arXiv
2408.03326)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import nn

from ...errors import ModelNotSupported
from ...runtime.preprocessing import Medium
from ..parts.vision import VisionParts
from .base import pixels_of
from .llava_next import LlavaNext


class FramePooling(nn.Module):
    """The projector, then a quarter of the tokens by bilinear means, as the library pools a frame.

    Args:
        model: the library's model, whose ``apply_pooling`` it is.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.projector = model.multi_modal_projector
        self._pool = model.apply_pooling

    def features(self, patches: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self._pool(self.projector(patches))
        return pooled

    def scores(self, of_patches: torch.Tensor) -> torch.Tensor:
        pooled: torch.Tensor = self._pool(of_patches.transpose(-1, -2))
        return pooled.transpose(-1, -2)


class LlavaOneVision(LlavaNext):
    """``LlavaOnevisionForConditionalGeneration`` of transformers."""

    name: ClassVar[str] = "llava_onevision"

    def check(self, config: Any) -> None:
        super().check(config)
        if not str(config.vision_aspect_ratio).startswith("anyres_max_"):
            raise ModelNotSupported(
                f"vision_aspect_ratio {config.vision_aspect_ratio!r}", ["anyres_max_9"]
            )

    def video(self, model: Any) -> VisionParts:
        parts = self.vision(model)
        rows, columns = parts.grid
        return replace(
            parts,
            projector=nn.Identity(),
            merge=FramePooling(model.model),
            grid=(math.ceil(rows / 2), math.ceil(columns / 2)),
        )

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        if medium.kind == "image":
            return super().image_features(model, medium, size)
        pixels = pixels_of(model, medium)[None]
        features: torch.Tensor = model.get_video_features(pixel_values_videos=pixels).pooler_output
        return features[0]
