"""Vision towers that take flattened patches, in the number that the image's size asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...runtime.bundle.contract import INT, PIXEL_VALUES, TensorSpec
from ...runtime.preprocessing.patches import PATCH_POSITIONS, WINDOWS
from .vision import TokenMerge, VisionParts, pixel_values


@dataclass(frozen=True, kw_only=True)
class PatchGroups(TokenMerge):
    """Neighbouring patches make a token: the projector reads them side by side."""

    size: int
    """Patches of a token."""

    def features(self, patches: torch.Tensor) -> torch.Tensor:
        """``(1, tokens * size, width)`` -> ``(1, tokens, size * width)``."""
        _, count, width = patches.shape
        return patches.reshape(1, count // self.size, self.size * width)

    def scores(self, of_patches: torch.Tensor) -> torch.Tensor:
        """The mean over the patches of each token."""
        count = of_patches.shape[-1] // self.size
        return of_patches.reshape(*of_patches.shape[:-1], count, self.size).mean(dim=-1)


class PatchProjection(nn.Module):
    """``(patches, features)`` -> ``(patches, width)``: a convolution whose kernel is one patch.

    As the product that it is: ONNX Runtime's convolution takes 20 times as long.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        weight = self.convolution.get_parameter("weight")
        return nn.functional.linear(patches, weight.flatten(1), self.convolution.bias)


class GroupProjector(nn.Module):
    """``(1, n, size * width)`` -> ``(1, n, language width)``, by a merger that groups patches."""

    def __init__(self, merger: nn.Module, size: int) -> None:
        super().__init__()
        self.merger = merger
        self._size = size

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        groups: torch.Tensor = self.merger(features.unflatten(-1, (self._size, -1)))
        return groups[None]


class _OneImage:
    """Stands for the bounds of images that are run together, where there is one of all patches.

    Blocks ask for the lengths between the bounds, which a traced graph does not know as numbers.
    """

    def __init__(self, patches: int | torch.SymInt) -> None:
        self._patches = patches

    def __getitem__(self, _: slice) -> _OneImage:
        return self

    def __sub__(self, _: _OneImage) -> _OneImage:
        return self

    def tolist(self) -> list[int | torch.SymInt]:
        """The one length."""
        return [self._patches]


@dataclass(frozen=True, kw_only=True)
class PatchTower(VisionParts):
    """A tower over ``pixel_values (1, tokens, size, features)``: one image, or a frame of a video.

    Its blocks are those of Qwen2-VL and its kin; ``patch_positions (tokens, size, 2)`` int64 says
    row and column of each patch.
    """

    rotary: nn.Module
    """Patches and their positions ``(patches, 2)`` -> cos and sin ``(patches, head_dim)``."""
    features: int
    """Numbers that make a patch."""
    size: int
    """Patches of a token."""
    global_layers: tuple[int, ...] | None = None
    """Layers in which every patch sees all, where others see the window of ``windows (tokens,)``
    int64 alone; None: there are no windows."""

    def modules(self) -> dict[str, nn.Module]:
        return super().modules() | {"rotary": self.rotary}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        places = TensorSpec(name=PATCH_POSITIONS, dtype=INT, shape=("tokens", self.size, 2))
        found = [pixel_values(1, "tokens", self.size, self.features), places]
        if self.global_layers is not None:
            found.append(TensorSpec(name=WINDOWS, dtype=INT, shape=("tokens",)))
        return tuple(found)

    @property
    def sizes(self) -> tuple[str | int, str | int]:
        return 1, "tokens"

    def embed(self, image: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, Any]]:
        hidden = self.embeddings(image[PIXEL_VALUES].flatten(0, 2))
        angles = self.rotary(hidden, image[PATCH_POSITIONS].flatten(0, 1))
        return hidden, {"cu_seqlens": _OneImage(hidden.shape[0]), "position_embeddings": angles}

    def masks(self, image: Mapping[str, torch.Tensor]) -> Sequence[torch.Tensor | None]:
        if self.global_layers is None:
            return super().masks(image)
        window = image[WINDOWS][:, None].expand(-1, self.size).flatten()
        same = window[:, None] == window[None, :]
        return [None if n in self.global_layers else same for n in range(len(self.layers))]

    def of_images(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[None]

    @property
    def scored(self) -> tuple[int, ...]:
        return super().scored if self.global_layers is None else self.global_layers
