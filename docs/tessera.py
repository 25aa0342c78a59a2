"""Tessera: a ViT with registers over tiles that the prompt names by row and column, and a plane of
every image token that the decoder adds behind its second layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch

from ...errors import ModelNotSupported
from ...runtime.bundle.prompt import TileLayout
from ...runtime.preprocessing import Medium, Preprocessor
from ..parts.language import LanguageParts
from ..parts.rotary import context_of
from ..parts.vision import Plane, VisionParts
from ..processors.tiles import tile_preprocessor
from .base import Family, MediaTexts, ProcessorFiles, pixels_of

_ATTENTION = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
}


class Tessera(Family):
    """``TesseraForConditionalGeneration``."""

    name: ClassVar[str] = "tessera"

    def check(self, config: Any) -> None:
        if config.vision_config.model_type != "dinov2_with_registers":
            raise ModelNotSupported(
                f"a tessera with vision tower {config.vision_config.model_type!r}",
                ["dinov2_with_registers"],
            )
        context_of(config.text_config)

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        side = self._side(config)
        made = tile_preprocessor(files.image, (side, side), video=None)
        return replace(made, sampling=None)  # it takes no video

    def texts(self, tokenizer: Any, image_token: str) -> MediaTexts:
        return MediaTexts(
            image=image_token,
            tiles=TileLayout(
                tile=f"row {{row}} column {{column}}: {image_token}",
                row_end="\n",
                overview=f"whole: {image_token}",
            ),
        )

    def vision(self, model: Any) -> VisionParts:
        config, tower = model.config, model.model.vision_tower
        side = self._side(config)
        return VisionParts(
            embeddings=tower.embeddings,
            layers=tower.encoder.layer,
            norm=tower.layernorm,
            projector=model.model.projector,
            planes=(Plane(config.plane_state, model.model.plane_projector),),
            has_cls=True,
            registers=config.vision_config.num_register_tokens,
            grid=(side, side),
            image_size=(config.vision_config.image_size,) * 2,
            tiled=True,
        )

    def language(self, model: Any) -> LanguageParts:
        decoder, text = model.model.language_model, model.config.text_config
        planes = (model.config.plane_layer,)
        return LanguageParts.of_decoder(decoder, model.lm_head, text, planes=planes)

    def decode(self, model: Any, rows: torch.Tensor, **arguments: Any) -> Any:
        embeds, plane = rows.chunk(2, dim=-1)
        return model.model.decode(embeds, plane, **arguments)

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        features, plane = model.model.image_features(pixels_of(model, medium))
        return torch.cat((features, plane), dim=-1).flatten(0, 1)

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        return {}

    def canonical_name(self, key: str) -> str:
        # Checkpoints spell the tower's attention as transformers did before version 5.
        key = key.removeprefix("model.")
        for published, name in _ATTENTION.items():
            key = key.replace(published, name)
        return key

    def embedding_name(self) -> str:
        return "language_model.embed_tokens.weight"

    def _side(self, config: Any) -> int:
        """Rows of image tokens of a tile."""
        return int(config.vision_config.image_size // config.vision_config.patch_size)
