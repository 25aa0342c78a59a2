"""Video-LLaVA: a tower for images and one for the frames of a video, one projector (arXiv
2311.10122)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from ...runtime.preprocessing import Medium, Preprocessor
from ...runtime.preprocessing.fixed import ImagePreprocessor
from ..parts.vision import VisionParts
from .base import ProcessorFiles, pixels_of
from .llava import Llava


class VideoLlava(Llava):
    """``VideoLlavaForConditionalGeneration`` of transformers.

    As there, a frame has its [CLS] among its tokens, 257 of them; the published model has 256.
    Where tokens are dropped, [CLS] goes first.
    """

    name: ClassVar[str] = "video_llava"
    towers: ClassVar[Mapping[str, str]] = {"clip_vision_model": "default"}

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        made = super().preprocessing(config, files)
        assert isinstance(made, ImagePreprocessor)
        return replace(made, video_cls=True)

    def vision(self, model: Any) -> VisionParts:
        return self._parts(model, model.model.image_tower)

    def video(self, model: Any) -> VisionParts:
        return replace(self._parts(model, model.model.video_tower), keeps_cls=True, tiled=True)

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        pixels = pixels_of(model, medium)
        if medium.kind == "image":
            features: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output
            return features[0]
        found = model.model.get_video_features(
            pixels[None], vision_feature_layer=model.config.vision_feature_layer
        )
        frames: torch.Tensor = found.pooler_output
        return frames.flatten(0, 1)

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        return {
            f"{name}.embeddings.position_ids": np.arange(
                getattr(model.model, name).embeddings.num_positions
            )[None]
            for name in ("image_tower", "video_tower")
        }
