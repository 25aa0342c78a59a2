"""The vision side of a model, cut where it is needed: what the vision graph is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from ...runtime.bundle.contract import FLOAT, PIXEL_VALUES, TensorSpec


def pixel_values(*shape: str | int) -> TensorSpec:
    """The input that holds pixels, of this shape; a text is a symbolic dimension."""
    return TensorSpec(name=PIXEL_VALUES, dtype=FLOAT, shape=shape)


@dataclass(frozen=True)
class Plane:
    """More of an image token, which a later layer of the decoder adds to its hidden state.

    As "deepstack" in Qwen3-VL (DeepStack: arXiv 2406.04334).
    """

    state: int
    """Hidden state of the tower that it is made of, 0 before the layers."""
    projector: nn.Module
    """As ``VisionParts.projector``."""


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
    registers: int = 0
    """Rows between [CLS] and the patches, which are no image tokens."""
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
    planes: tuple[Plane, ...] = ()
    """What else is made of every image token; ``LanguageParts.planes`` says where it is added."""
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

    @property
    def leading(self) -> int:
        """Rows before the patches: [CLS] and registers."""
        return int(self.has_cls) + self.registers

    def modules(self) -> dict[str, nn.Module]:
        """All that holds weights, by name."""
        names = ("embeddings", "layers", "norm", "merge", "projector")
        found = {name: getattr(self, name) for name in names}
        if self.planes:
            found["planes"] = nn.ModuleList(plane.projector for plane in self.planes)
        return {name: part for name, part in found.items() if isinstance(part, nn.Module)}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of the vision graph that hold the image; the first is ``PIXEL_VALUES``."""
        assert self.image_size is not None
        return (pixel_values("images", 3, *self.image_size),)

    @property
    def sizes(self) -> tuple[str | int, str | int]:
        """Images and tokens of the outputs, as in their shapes."""
        return "images", self.tokens

    def embed(self, image: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
        """Hidden states before the first layer, and what every layer takes besides them.

        Args:
            image: ``inputs`` by name, those of floats in the type of the weights.
        """
        return self.embeddings(image[PIXEL_VALUES]), dict(self.layer_arguments)

    def masks(self, image: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor | None]:
        """For each layer what a patch may look at, boolean ``(patches, patches)``; None: all."""
        return [None] * len(self.layers)

    def of_images(self, hidden: torch.Tensor) -> torch.Tensor:
        """A layer's output as ``(images, leading + patches, width)``."""
        return hidden

    @property
    def scored(self) -> tuple[int, ...]:
        """The layers whose attention may rank tokens: those in which every patch sees all."""
        return tuple(range(len(self.layers)))
