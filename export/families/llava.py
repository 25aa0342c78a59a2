"""LLaVA: CLIP or SigLIP tower, two-layer projector, Llama-like decoder (arXiv 2304.08485,
2310.03744)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...errors import ModelNotSupported
from ...runtime.preprocessing import Medium, Preprocessor
from ..parts.language import LanguageParts
from ..parts.rotary import context_of
from ..parts.vision import VisionParts
from ..processors.fixed import fixed_preprocessor
from .base import Family, ProcessorFiles, pixels_of

_DECODERS = ("llama", "mistral", "qwen2")
_SELECTED = {"default": "all patches, without [CLS]", "full": "every token of the tower"}
"""Values of ``vision_feature_select_strategy``."""


class _ClipEmbeddings(nn.Module):
    """Patches, [CLS], position embeddings and the norm before the first layer."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.embeddings = tower.embeddings
        self.norm = tower.pre_layrnorm

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.norm(self.embeddings(pixel_values))
        return hidden


class Llava(Family):
    """``LlavaForConditionalGeneration`` of transformers."""

    name: ClassVar[str] = "llava"
    towers: ClassVar[Mapping[str, str]] = {
        "clip_vision_model": "default",
        "siglip_vision_model": "full",
    }
    """Vision towers, each with the ``vision_feature_select_strategy`` that gives all patches and
    nothing else."""

    def check(self, config: Any) -> None:
        vision, text = config.vision_config, config.text_config
        if vision.model_type not in self.towers:
            raise ModelNotSupported(
                f"a {self.name} with vision tower {vision.model_type!r}", self.towers
            )
        if text.model_type not in _DECODERS:
            raise ModelNotSupported(f"a {self.name} with decoder {text.model_type!r}", _DECODERS)
        selects = (self.towers[vision.model_type], *self._also_selects(vision.model_type))
        if config.vision_feature_select_strategy not in selects:
            raise ModelNotSupported(
                f"vision_feature_select_strategy {config.vision_feature_select_strategy!r} of a "
                f"{self.name} with {vision.model_type}",
                [f"{name} ({_SELECTED[name]})" for name in selects],
            )
        self._states(config)
        context_of(text)

    def _also_selects(self, tower: str) -> tuple[str, ...]:
        """Strategies besides that of ``towers``."""
        return ("full",) if tower == "clip_vision_model" else ()

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        vision = config.vision_config
        side = vision.image_size // vision.patch_size
        made = fixed_preprocessor(files.image, (side, side))
        made = replace(made, image_cls=self._keeps_cls(config))
        if (made.height, made.width) != (vision.image_size,) * 2:
            raise ModelNotSupported(
                f"an image processor whose output has {made.height} x {made.width} pixels",
                [f"the {vision.image_size} x {vision.image_size} of the vision tower"],
            )
        return made

    def vision(self, model: Any) -> VisionParts:
        return self._parts(model, model.model.vision_tower)

    def _parts(self, model: Any, tower: Any) -> VisionParts:
        config = model.config
        side = config.vision_config.image_size // config.vision_config.patch_size
        has_cls = config.vision_config.model_type == "clip_vision_model"
        states = self._states(config)
        return VisionParts(
            embeddings=_ClipEmbeddings(tower) if has_cls else tower.embeddings,
            layers=tower.encoder.layers[: max(states)],
            joined=states if len(states) > 1 else (),
            keeps_cls=self._keeps_cls(config),
            projector=model.model.multi_modal_projector,
            has_cls=has_cls,
            grid=(side, side),
            image_size=(config.vision_config.image_size,) * 2,
        )

    def language(self, model: Any) -> LanguageParts:
        decoder, text = model.model.language_model, model.config.text_config
        return LanguageParts.of_decoder(decoder, model.lm_head, text)

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        pixels = pixels_of(model, medium)
        features: torch.Tensor = model.get_image_features(pixel_values=pixels).pooler_output[0]
        return features

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        positions = model.model.vision_tower.embeddings.num_positions
        return {"vision_tower.embeddings.position_ids": np.arange(positions)[None]}

    def canonical_name(self, key: str) -> str:
        # Before transformers 5: vision_tower.vision_model.*, language_model.model.*,
        # language_model.lm_head.*; since then: model.vision_tower.*, model.language_model.*.
        key = key.removeprefix("model.")
        key = key.removeprefix("language_model.") if ".lm_head." in key else key
        return re.sub(r"^(\w+_tower)\.vision_model\.|^(language_model)\.model\.", r"\1\2.", key)

    def embedding_name(self) -> str:
        return "language_model.embed_tokens.weight"

    def _keeps_cls(self, config: Any) -> bool:
        """Whether the decoder reads an image's [CLS] too."""
        clip = config.vision_config.model_type == "clip_vision_model"
        return clip and config.vision_feature_select_strategy == "full"

    def _states(self, config: Any) -> tuple[int, ...]:
        """Hidden states that make the features; number 0 is the embeddings, before any layer."""
        depth, asked = config.vision_config.num_hidden_layers, config.vision_feature_layer
        layers = [asked] if isinstance(asked, int) else asked
        states = tuple(layer if layer >= 0 else depth + 1 + layer for layer in layers)
        if not states or not all(0 <= state <= depth for state in states) or not any(states):
            raise ModelNotSupported(
                f"vision_feature_layer {asked} of a tower with {depth} layers",
                [f"1..{depth} or -{depth}..-1, or a list of them"],
            )
        return states
