"""Qwen2-VL: a tower over patches of the image at its own size, M-RoPE in the decoder (arXiv
2409.12191)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from ...errors import ModelNotSupported
from ...runtime.preprocessing import Medium, Preprocessor
from ..parts.language import LanguageParts
from ..parts.patch_tower import GroupProjector, PatchGroups, PatchProjection, PatchTower
from ..parts.rotary import context_of
from ..parts.vision import VisionParts
from ..processors.patches import patch_preprocessor
from .base import Family, ProcessorFiles, pixels_of

_TYPICAL = (16, 16)
_ROTARY = "visual.rotary_pos_emb"


class Qwen2VL(Family):
    """``Qwen2VLForConditionalGeneration`` of transformers."""

    name: ClassVar[str] = "qwen2_vl"
    windowed: ClassVar[bool] = False
    """Whether most layers of the tower see windows alone."""

    def check(self, config: Any) -> None:
        text = config.text_config
        rope = text.rope_parameters
        if 2 * sum(rope.get("mrope_section", ())) != text.hidden_size // text.num_attention_heads:
            raise ModelNotSupported(
                f"mrope_section {rope.get('mrope_section')!r}",
                ["sections whose sum is half the size of a head"],
            )
        context_of(text)

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        return patch_preprocessor(
            files.image, model=files.model, windowed=self.windowed, video=files.video
        )

    def vision(self, model: Any) -> VisionParts:
        tower, config = model.model.visual, model.config.vision_config
        size = config.spatial_merge_size**2
        return PatchTower(
            embeddings=PatchProjection(tower.patch_embed.proj),
            layers=tower.blocks,
            projector=GroupProjector(tower.merger, size),
            rotary=tower.rotary_pos_emb,
            has_cls=False,
            grid=_TYPICAL,
            image_size=None,
            merge=PatchGroups(size=size),
            features=config.in_channels * config.temporal_patch_size * config.patch_size**2,
            size=size,
            global_layers=self._global_layers(config),
        )

    def language(self, model: Any) -> LanguageParts:
        decoder, text = model.model.language_model, model.config.text_config
        sections = tuple(text.rope_parameters["mrope_section"])
        return LanguageParts.of_decoder(decoder, model.lm_head, text, sections=sections)

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        merge = model.config.vision_config.spatial_merge_size
        rows, columns = (merge * tokens for tokens in medium.grid)
        pixels = pixels_of(model, medium).flatten(0, 2)
        grid = torch.tensor([[len(medium.pixels), rows, columns]])
        found = model.get_image_features(pixel_values=pixels, image_grid_thw=grid)
        features: torch.Tensor = found.pooler_output[0]
        return features

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        from torch._subclasses.fake_tensor import unset_fake_temporarily

        rotary = type(model.model.visual.rotary_pos_emb)
        with unset_fake_temporarily():
            made = rotary(model.config.vision_config)
            return {f"{_ROTARY}.inv_freq": made.inv_freq.numpy().copy()}

    def canonical_name(self, key: str) -> str:
        # Before transformers 5: visual.*, model.*, lm_head.*; since then: model.visual.*,
        # model.language_model.*, lm_head.*.
        key = key.removeprefix("model.")
        named = key.startswith(("visual.", "language_model.", "lm_head."))
        return key if named else f"language_model.{key}"

    def embedding_name(self) -> str:
        return "language_model.embed_tokens.weight"

    def _global_layers(self, config: Any) -> tuple[int, ...] | None:
        """Layers of the tower with attention over the whole image; None: all are."""
        return None
