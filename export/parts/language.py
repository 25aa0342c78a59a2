"""The decoder of a model, cut where it is needed: what the language graphs are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...runtime.bundle.contract import Sizes, row_width
from .rotary import context_of, rotary_tables


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
    planes: tuple[int, ...] = ()
    """For each of ``VisionParts.planes``, in order, the layer behind which it is added to the
    hidden states, ascending."""

    @classmethod
    def of_decoder(cls, decoder: Any, head: nn.Module, config: Any, **more: Any) -> LanguageParts:
        """The parts of a decoder of transformers.

        Args:
            decoder: such as a ``LlamaModel``.
            head: of the model.
            config: the text configuration.
            more: other fields.

        Raises:
            ModelNotSupported: as ``rotary.context_of``.
        """
        return cls(
            layers=decoder.layers,
            norm=decoder.norm,
            head=head,
            config=config,
            rotary=type(decoder.rotary_emb),
            context=context_of(config),
            **more,
        )

    @property
    def positions(self) -> str | None:
        """The one position mode that the rotary embedding allows; None for any."""
        # With sections, a token's numbers are its row and column on the picture.
        return "original" if self.sections else None

    def row_width(self, layer: int) -> int:
        """As ``contract.row_width``."""
        return row_width(self.config.hidden_size, self.planes, layer)

    def layer(self, number: int) -> Any:
        """A layer of transformers' own, with its attention and norms."""
        return self.layers[number]

    @property
    def position_axes(self) -> int:
        """Numbers that a token carries."""
        return 3 if self.sections else 1

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.layers.parameters()).dtype

    @property
    def cache_type(self) -> str:
        """Name of that type, which the KV cache has too."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return int(self.config.num_key_value_heads)

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        explicit = getattr(self.config, "head_dim", None)
        return int(explicit or self.config.hidden_size // self.config.num_attention_heads)

    @property
    def sizes(self) -> Sizes:
        """What the names of dimensions in ``contract.KINDS`` stand for."""
        return {
            "width": self.config.hidden_size,
            "heads": self.config.num_attention_heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab": self.config.vocab_size,
            "axes": self.position_axes if self.sections else None,
        }

    def rotary_lookup(self) -> RotaryLookup:
        """A module that looks rotation angles up by position."""
        return RotaryLookup(self.rotary_tables(), self.dtype, self.sections)

    def rotary_tables(self) -> dict[str, np.ndarray]:
        """As ``rotary.rotary_tables``."""
        return rotary_tables(self.rotary, self.config, self.context)
