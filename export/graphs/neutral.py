"""A traced graph in neutral form, which every target lowers to its own operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, kw_only=True)
class NeutralGraph:
    """Standard operators of ``tracing.NEUTRAL_OPSET``, and those of domain ``vtp``:
    ``CachedAttention``, ``VisionAttention`` and ``TopKTokens``."""

    name: str
    model: ir.Model
    """Its weights have no value yet."""
    weights: Mapping[str, str]
    """Initializer name -> name in the weight file."""
    norms: int | None = None
    """RMS norms that it has; None: not known."""
    rotates: bool = False
    """Whether it rotates queries and keys by their positions."""
    gapless: bool = False
    """Whether position ids always count up without gaps."""
    sections: bool = False
    """Whether the angles of a token follow several position numbers (M-RoPE)."""
