"""What a model family tells the exporter: where the parts are, and how a prompt is laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn

from ...runtime.preprocessing import Medium, Preprocessor
from ..rotary import rotary_tables

Shape = tuple[str | int, ...]
"""A text is a symbolic dimension."""


class TokenMerge(Protocol):
    """How the patches of a tower become fewer image tokens."""

    def features(self, patches: torch.Tensor) -> torch.Tensor:
        """``(images, patches, width)`` -> ``(images, tokens, token width)``, what the projector
        takes."""
        ...

    def scores(self, of_patches: torch.Tensor) -> torch.Tensor:
        """``(..., patches)`` -> ``(..., tokens)``: one number of each token, from its patches."""
        ...


@dataclass(frozen=True, kw_only=True)
class VisionParts:
    """The vision side, cut where it is needed: of a tower that sees tiles of one size.

    Towers that take something else override the methods.
    """

    embeddings: nn.Module
    """``(images, 3, H, W)`` -> ``(images, patches [+ 1], width)``, all that precedes the layers."""
    layers: nn.ModuleList
    """The layers that lead to the features; later ones are left out."""
    projector: nn.Module
    """``(images, tokens, width)`` -> ``(images, tokens, language width)``."""
    has_cls: bool
    """Whether row 0 is a [CLS] token."""
    grid: tuple[int, int]
    """Rows and columns of image tokens; where that depends on the image, of a typical one."""
    image_size: tuple[int, int] | None
    """Height and width in pixels; None where the tower takes images of any size."""
    norm: nn.Module | None = None
    """Behind the last layer, where the features are taken from behind it."""
    joined: tuple[int, ...] = ()
    """Hidden states that make the features side by side, 0 before the layers; none: what comes out
    of the last layer."""
    merge: TokenMerge | None = None
    """None: every patch is a token."""
    keeps_cls: bool = False
    """Whether the language model reads [CLS] too, where nothing is dropped."""
    tiled: bool = False
    """Whether an image may be several tiles."""
    layer_arguments: Mapping[str, Any] = field(default_factory=lambda: {"attention_mask": None})
    """What every layer takes besides the hidden states."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.layers.parameters()).dtype

    @property
    def tokens(self) -> int:
        """Image tokens of a tile before pruning."""
        return self.grid[0] * self.grid[1]

    @property
    def free_size(self) -> bool:
        """Whether the number of tokens depends on the image."""
        return self.image_size is None

    @property
    def one_to_one(self) -> bool:
        """Whether an image is one tile, and every patch of it a token."""
        return not self.tiled and self.merge is None and not self.free_size

    def modules(self) -> dict[str, nn.Module]:
        """All that holds weights, by name."""
        names = ("embeddings", "layers", "norm", "merge", "projector")
        found = {name: getattr(self, name) for name in names}
        return {name: part for name, part in found.items() if isinstance(part, nn.Module)}

    def ends(self) -> dict[str, tuple[torch.Tensor, Shape]]:
        """Inputs of the vision graph that hold the image: an example and the shape of each."""
        assert self.image_size is not None
        height, width = self.image_size
        return {"pixel_values": (torch.zeros(2, 3, height, width), ("images", 3, height, width))}

    @property
    def sizes(self) -> tuple[str | int, str | int]:
        """Images and tokens of the outputs, as in their shapes."""
        return "images", self.tokens

    def embed(
        self, pixel_values: torch.Tensor, inputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, dict[str, Any]]:
        """Hidden states before the first layer, and what every layer takes besides them."""
        return self.embeddings(pixel_values), dict(self.layer_arguments)

    def masks(self, inputs: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor | None]:
        """For each layer what a patch may look at, boolean ``(patches, patches)``; None: all."""
        return [None] * len(self.layers)

    def behind(self, hidden: torch.Tensor) -> torch.Tensor:
        """The features, from the last layer's output ``(images, patches [+ 1], width)``."""
        if self.norm is not None:
            hidden = self.norm(hidden)
        return hidden

    @property
    def scored(self) -> tuple[int, ...]:
        """The layers whose attention may rank tokens: those in which every patch sees all."""
        return tuple(range(len(self.layers)))


class RotaryLookup(nn.Module):
    """``position_ids (batch, tokens)`` -> cos and sin ``(batch, tokens, head_dim)``.

    From two tables ``(positions, head_dim / 2)``; positions are explicit so that pruned prompts may
    number their tokens as they like. In fake mode the tables have no values. With sections, for
    M-RoPE, ``position_ids (3, batch, tokens)``: section after section of the angles follows the
    first, second and third axis in turn (Qwen2-VL, arXiv 2409.12191, section 2.1).
    """

    def __init__(
        self, tables: Mapping[str, np.ndarray], dtype: torch.dtype, sections: tuple[int, ...] = ()
    ) -> None:
        super().__init__()
        self._sections = list(sections)
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=dtype))

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        halves = (
            self._of_axes(nn.functional.embedding(position_ids, self.get_buffer(name)))
            for name in ("rotary_cos", "rotary_sin")
        )
        cos, sin = (torch.cat((half, half), dim=-1) for half in halves)
        return cos, sin

    def _of_axes(self, angles: torch.Tensor) -> torch.Tensor:
        if not self._sections:
            return angles
        parts = angles.split(self._sections, dim=-1)
        return torch.cat([part[number % 3] for number, part in enumerate(parts)], dim=-1)


@dataclass(frozen=True, kw_only=True)
class LanguageParts:
    """The language side, cut where it is needed."""

    layers: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    config: Any
    """The text configuration of transformers."""
    rotary: type[nn.Module]
    """The rotary embedding class, made anew on real memory for its tables."""
    context: int
    """Positions that the graphs know, see ``rotary.context_of``."""
    sections: tuple[int, ...] = ()
    """Of each half of a head, how many angles in turn follow the number of each axis (M-RoPE)."""

    @property
    def position_axes(self) -> int:
        """Numbers that a token carries."""
        return 3 if self.sections else 1

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.layers.parameters()).dtype

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return int(self.config.num_key_value_heads)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        explicit = getattr(self.config, "head_dim", None)
        return int(explicit or self.config.hidden_size // self.config.num_attention_heads)

    def rotary_lookup(self) -> RotaryLookup:
        """A module that looks rotation angles up by position."""
        return RotaryLookup(self.rotary_tables(), self.dtype, self.sections)

    def rotary_tables(self) -> dict[str, np.ndarray]:
        """As ``rotary.rotary_tables``."""
        return rotary_tables(self.rotary, self.config, self.context)


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
        ...

    @property
    def positions(self) -> str | None:
        """The one position mode that the model's rotary embedding allows; None for any."""
        return None

    def vision(self, model: Any) -> VisionParts: ...

    def video(self, model: Any) -> VisionParts | None:
        """The parts that look at the frames of a video, where they are not those of images."""
        return None

    def language(self, model: Any) -> LanguageParts: ...

    def image_features(self, model: Any, medium: Medium, size: tuple[int, int]) -> torch.Tensor:
        """What the library's model makes of an image with every token, ``(n, width)``: the image
        tokens as the prompt reads them.

        Args:
            model: with its weights.
            medium: the image, preprocessed.
            size: height and width of the original.
        """
        ...

    def image_text(self, tokenizer: Any, image_token: str) -> str:
        """What stands for an image in the text, with ``image_token`` in it once."""
        return image_token

    def video_token(self, config: Any, tokenizer: Any) -> str:
        """The token that stands for a video, of models that take them."""
        token: str = tokenizer.convert_ids_to_tokens(config.video_token_id)
        return token

    def frame_text(self, image_text: str) -> str | None:
        """As ``VideoLayout.frame``, of models that name every frame."""
        return None

    def shrinks(self, preprocessor: Preprocessor) -> bool:
        """Whether tokens of large images are means of others (``Medium.resample``)."""
        return False

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
