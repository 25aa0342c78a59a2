"""What a model family tells the exporter: where the parts are, and how a prompt is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from ...runtime.bundle.prompt import TileLayout
from ...runtime.preprocessing import Medium, Preprocessor
from ..parts.language import LanguageParts
from ..parts.vision import VisionParts


@dataclass(frozen=True, kw_only=True)
class ProcessorFiles:
    """Contents of the files of a model folder that say what is done to images and videos."""

    model: Mapping[str, Any]
    """config.json."""
    image: Mapping[str, Any]
    """preprocessor_config.json, or that part of processor_config.json."""
    video: Mapping[str, Any] | None
    """video_preprocessor_config.json, likewise; None if there is none."""
    layout: str | None = None
    """One of the family's ``layouts``, as asked for; None takes the first."""


@dataclass(frozen=True, kw_only=True)
class MediaTexts:
    """What a model's processor writes around the tokens of images and videos."""

    image: str
    """Stands for an image in the text, the image token in it once; also within ``frame``."""
    tiles: TileLayout | None = None
    """Instead of ``image``, of models with text between the tiles of one."""
    video_token: str | None = None
    """Stands for a video in the chat template, where it is no token of ``config.json``."""
    frame: str | None = None
    """As ``VideoLayout.frame``, of models that name every frame."""


def pixels_of(model: Any, medium: Medium) -> torch.Tensor:
    """Pixels of an image in the type that a model computes in."""
    return torch.from_numpy(medium.pixels).to(model.dtype)


class Family(Protocol):
    """One model family, in one file."""

    name: ClassVar[str]
    """The ``model_type`` of config.json."""
    layouts: ClassVar[tuple[str, ...]] = ()
    """How tiles may lie in the prompt, the library's way first; none where there is one way."""

    def check(self, config: Any) -> None:
        """Refuse a configuration within the family that cannot be exported.

        Raises:
            ModelNotSupported: naming what it is and what would do.
        """
        ...

    def preprocessing(self, config: Any, files: ProcessorFiles) -> Preprocessor:
        """What is done to images.

        Args:
            config: of the model.
            files: what its folder says of it.

        Raises:
            ModelNotSupported: a processor that cannot be reproduced, or that does not fit.
        """
        ...

    def make(self, config: Any) -> nn.Module:
        """The transformers model, as the current device or tensor mode makes it."""
        from transformers import AutoModelForImageTextToText
        from transformers.initialization import no_init_weights

        # Some models draw their first weights until they please, which fake tensors cannot.
        with no_init_weights():
            model: Any = AutoModelForImageTextToText.from_config(config)
        model.tie_weights()
        made: nn.Module = model
        return made

    def vision(self, model: Any) -> VisionParts: ...

    def video(self, model: Any) -> VisionParts | None:
        """The parts that look at the frames of a video, where they are not those of images."""
        return None

    def language(self, model: Any) -> LanguageParts: ...

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        """What the library's model makes of an image with every token, ``(n, row_width)``: rows as
        the decoder reads them.

        Args:
            model: with its weights.
            medium: the image, preprocessed.
            size: height and width of the original.
        """
        ...

    def texts(self, tokenizer: Any, image_token: str) -> MediaTexts:
        """The text around the tokens of images and videos."""
        return MediaTexts(image=image_token)

    def decode(self, model: Any, rows: torch.Tensor, **arguments: Any) -> Any:
        """Run the library's decoder, without its head, as its own model runs it.

        Args:
            model: with its weights.
            rows: ``(1, tokens, row_width)``; in models with planes those of text tokens are zeros.
            arguments: positions and cache, as transformers' decoders take them.
        """
        return model.model.language_model(inputs_embeds=rows, **arguments)

    def separator(self, model: Any) -> torch.Tensor | None:
        """The learned row ``(width,)`` between image tokens, if there is one."""
        return None

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        """Values of buffers that no checkpoint holds, by their name in the model."""
        ...

    def canonical_name(self, key: str) -> str:
        """One name for a tensor, however the checkpoint or the model spells it."""
        ...

    def embedding_name(self) -> str:
        """Canonical name of the token embedding table ``(vocab, width)``."""
        ...

    def separator_name(self) -> str | None:
        """Canonical name of ``separator``."""
        return None
