"""LLaVA-NeXT (LLaVA-1.6): LLaVA with tiles of any resolution, and a learned row at the end of a
line of them (https://llava-vl.github.io/blog/2024-01-30-llava-next/)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from transformers.image_processing_utils import select_best_resolution

from ...errors import ModelNotSupported
from ...runtime.preprocessing import SEPARATOR, Medium, Preprocessor
from ...runtime.preprocessing.anyres import LAYOUTS
from ..parts.vision import VisionParts
from ..processors.anyres import anyres_preprocessor
from .base import ProcessorFiles, pixels_of
from .llava import Llava


class LlavaNext(Llava):
    """``LlavaNextForConditionalGeneration`` of transformers: an overview tile and a mosaic of tiles
    of every image."""

    name: ClassVar[str] = "llava_next"
    layouts: ClassVar[tuple[str, ...]] = LAYOUTS

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        vision = config.vision_config
        side = vision.image_size // vision.patch_size
        made = anyres_preprocessor(
            files.image,
            (side, side),
            model=files.model,
            video=files.video,
            layout=files.layout or self.layouts[0],
        )
        if made.side != vision.image_size:
            raise ModelNotSupported(
                f"an image processor whose tiles have {made.side} pixels",
                [f"the {vision.image_size} of the vision tower"],
            )
        return made

    def vision(self, model: Any) -> VisionParts:
        return replace(super().vision(model), tiled=True)

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        spatial = not (medium.order == SEPARATOR).any()
        if spatial:
            # The library's one layout, of an image that fills its mosaic: there is no padding.
            size = select_best_resolution(size, model.config.image_grid_pinpoints)
        pixels = pixels_of(model, medium)[None]
        found = model.get_image_features(pixel_values=pixels, image_sizes=torch.tensor([size]))
        features: torch.Tensor = found.pooler_output[0]
        if spatial:
            own = torch.ne(features, model.model.image_newline).any(dim=-1)
            features = features[own]
        return features

    def _also_selects(self, tower: str) -> tuple[str, ...]:
        # [CLS] has no place in a mosaic of tiles; the library cannot lay it out either.
        return ()

    def separator(self, model: Any) -> torch.Tensor | None:
        row: torch.Tensor = model.model.image_newline
        return row

    def separator_name(self) -> str | None:
        return "image_newline"
