"""InternVL 2, 2.5 and 3 in the library's own classes: InternViT, two by two patches to a token, a
Qwen2 or Llama decoder (arXiv 2404.16821, 2504.10479)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from ...errors import ModelNotSupported
from ...runtime.preprocessing import Medium, Preprocessor
from ..parts.vision import VisionParts
from ..processors.tiles import tile_preprocessor
from .base import MediaTexts, ProcessorFiles, pixels_of
from .llava import Llava


class PixelShuffle:
    """Two by two patches side by side are one token; its score is the mean of theirs.

    Args:
        model: the library's model, whose ``pixel_shuffle`` it is.
        side: rows of patches, as many as columns.
        ratio: tokens along a side for each patch.
    """

    def __init__(self, model: Any, side: int, ratio: float) -> None:
        self._shuffle = model.pixel_shuffle
        self._side, self._ratio = side, ratio
        self._step = round(1 / ratio)

    def features(self, patches: torch.Tensor) -> torch.Tensor:
        squares = patches.reshape(patches.shape[0], self._side, self._side, -1)
        shuffled: torch.Tensor = self._shuffle(squares, scale_factor=self._ratio)
        return shuffled.reshape(patches.shape[0], -1, shuffled.shape[-1])

    def scores(self, of_patches: torch.Tensor) -> torch.Tensor:
        side = self._side // self._step
        squares = of_patches.reshape(*of_patches.shape[:-1], side, self._step, side, self._step)
        return squares.mean(dim=(-3, -1)).flatten(-2)


class InternVl(Llava):
    """``InternVLForConditionalGeneration`` of transformers."""

    name: ClassVar[str] = "internvl"
    towers: ClassVar[Mapping[str, str]] = {"internvl_vision": "default"}

    def check(self, config: Any) -> None:
        super().check(config)
        if not isinstance(config.vision_feature_layer, int):
            raise ModelNotSupported(
                f"vision_feature_layer {config.vision_feature_layer} of an internvl",
                ["one layer, as in transformers"],
            )
        step = 1 / config.downsample_ratio
        side = config.vision_config.image_size[0] // config.vision_config.patch_size[0]
        square = len(set(config.vision_config.image_size)) == 1
        if step != round(step) or side % round(step) or not square:
            raise ModelNotSupported(
                f"downsample_ratio {config.downsample_ratio} of "
                f"{config.vision_config.image_size} pixels",
                ["0.5, and square tiles of an even number of patches"],
            )

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        vision = config.vision_config
        tokens = self._side(config)
        made = tile_preprocessor(files.image, (tokens, tokens), video=files.video)
        if (made.height, made.width) != tuple(vision.image_size):
            raise ModelNotSupported(
                f"an image processor whose tiles have {made.height} x {made.width} pixels",
                [f"the {vision.image_size} of the vision tower"],
            )
        return made

    def vision(self, model: Any) -> VisionParts:
        config, tower = model.config, model.model.vision_tower
        vision = config.vision_config
        (run,) = self._states(config)
        side = vision.image_size[0] // vision.patch_size[0]
        tokens = self._side(config)
        return VisionParts(
            embeddings=tower.embeddings,
            layers=tower.encoder.layer[:run],
            # Feature layer -1 is what comes out of the whole tower.
            norm=tower.layernorm if config.vision_feature_layer == -1 else None,
            projector=model.model.multi_modal_projector,
            has_cls=True,
            grid=(tokens, tokens),
            image_size=tuple(vision.image_size),
            merge=PixelShuffle(model.model, side, config.downsample_ratio),
            layer_arguments={},
            tiled=True,
        )

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        pixels = pixels_of(model, medium)
        features: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output
        return features.flatten(0, 1)

    def texts(self, tokenizer: Any, image_token: str) -> MediaTexts:
        opening = getattr(tokenizer, "start_image_token", None) or "<img>"
        closing = getattr(tokenizer, "end_image_token", None) or "</img>"
        image = f"{opening}{image_token}{closing}"
        return MediaTexts(
            image=image,
            video_token=getattr(tokenizer, "video_token", None) or "<video>",
            frame="Frame{number}: " + image,
        )

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        return {}

    def _side(self, config: Any) -> int:
        """Rows of image tokens of a tile."""
        vision = config.vision_config
        return round(vision.image_size[0] // vision.patch_size[0] * config.downsample_ratio)
