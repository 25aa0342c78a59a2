"""What a model family tells the exporter: where the parts are, and how a prompt is laid out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class VisionParts:
    """The vision side, cut where it is needed."""

    embeddings: nn.Module
    """``(images, 3, H, W)`` -> ``(images, tokens [+ 1], width)``, all that precedes the layers."""
    layers: nn.ModuleList
    """The layers that lead to the features; later ones are left out."""
    projector: nn.Module
    """``(images, tokens, width)`` -> ``(images, tokens, language width)``."""
    has_cls: bool
    """Whether row 0 is a [CLS] token."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
    image_size: tuple[int, int]
    """Height and width in pixels."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.layers.parameters()).dtype

    @property
    def tokens(self) -> int:
        """Image tokens before pruning."""
        return self.grid[0] * self.grid[1]


class RotaryLookup(nn.Module):
    """``position_ids (batch, tokens)`` -> cos and sin ``(batch, tokens, head_dim)``.

    From two tables ``(positions, head_dim / 2)``; positions are explicit so that pruned prompts may
    number their tokens as they like. In fake mode the tables have no values.
    """

    def __init__(self, tables: Mapping[str, np.ndarray], dtype: torch.dtype) -> None:
        super().__init__()
        for name, table in tables.items():
            self.register_buffer(name, torch.tensor(table, dtype=dtype))

    def forward(self, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        halves = (
            nn.functional.embedding(position_ids, self.get_buffer(name))
            for name in ("rotary_cos", "rotary_sin")
        )
        cos, sin = (torch.cat((half, half), dim=-1) for half in halves)
        return cos, sin


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
    """Most positions the model knows."""

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
        return RotaryLookup(self.rotary_tables(), self.dtype)

    def rotary_tables(self) -> dict[str, np.ndarray]:
        """``rotary_cos`` and ``rotary_sin``, ``(context, head_dim / 2)`` float32."""
        return _rotary_tables(self.rotary, self.config, self.context)


def _rotary_tables(rotary: type[nn.Module], config: Any, context: int) -> dict[str, np.ndarray]:
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily(), torch.no_grad():
        module = rotary(config=config)
        positions = torch.arange(context)[None]
        cos, sin = module(torch.zeros(1, dtype=torch.float32), positions)
        half = cos.shape[-1] // 2
        return {
            "rotary_cos": cos[0, :, :half].numpy().copy(),
            "rotary_sin": sin[0, :, :half].numpy().copy(),
        }


class Family(Protocol):
    """One model family, in one file."""

    name: ClassVar[str]
    """The ``model_type`` of config.json."""

    def check(self, config: Any) -> None:
        """Refuse a configuration within the family that cannot be exported.

        Raises:
            ModelNotSupported: naming what it is and what would do.
        """
        ...

    def make(self, config: Any) -> nn.Module:
        """The transformers model, as the current device or tensor mode makes it."""
        ...

    def vision(self, model: Any) -> VisionParts: ...

    def language(self, model: Any) -> LanguageParts: ...

    def buffers(self, model: Any) -> Mapping[str, np.ndarray]:
        """Values of buffers that no checkpoint holds, by their name in the model."""
        ...

    def canonical_name(self, key: str) -> str:
        """One name for a tensor, however the checkpoint or the model spells it."""
        ...

    def embedding_name(self) -> str:
        """Canonical name of the token embedding table ``(vocab, width)``."""
        ...
