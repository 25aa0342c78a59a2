"""A graph traced into neutral form, which every target lowers to its own operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from torch import nn

from ...runtime.bundle.contract import VISION_SIDE
from ...runtime.bundle.manifest import WeightsRecord
from ..modules.graphs import WrappedGraph
from ..passes.block_weights import BlockParts, dequantize_matrices, matrices_for_matmul
from ..passes.static_reshape import make_reshapes_static
from ..passes.tidy import tidy
from ..passes.transposed_weights import pull_transposes
from .trace_cache import cached_trace
from .tracing import unknown_values


@dataclass(frozen=True, kw_only=True)
class NeutralGraph:
    """Standard operators of ``tracing.NEUTRAL_OPSET``, and those of domain ``vtp``:
    ``CachedAttention``, ``VisionAttention`` and ``TopKTokens``. Its weights have no value."""

    name: str
    model: ir.Model
    parameters: Mapping[str, nn.Parameter] = field(default_factory=dict)
    """Of the module that was traced, by the names of initializers."""
    buffers: Mapping[str, object] = field(default_factory=dict)
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Values of rotary tables, by the last part of their name."""
    transposed: frozenset[str] = frozenset()
    """Initializers that stand for the transpose of their tensor."""
    blocks: Mapping[str, BlockParts] = field(default_factory=dict)
    """Matrices that are stored in few bits, with the initializers that stand for each."""
    norms: int | None = None
    """RMS norms that it has; None: not known."""
    rotates: bool = False
    """Whether it rotates queries and keys by their positions."""
    gapless: bool = False
    """Whether position ids always count up without gaps."""
    sections: bool = False
    """Whether the angles of a token follow several position numbers (M-RoPE)."""


def neutral_graph(graph: WrappedGraph, quantized: WeightsRecord | None = None) -> NeutralGraph:
    """Trace a wrapped module.

    Args:
        graph: the module, on fake tensors.
        quantized: how the language side's matrices are stored; None: as everything else.
    """
    model, name, module = cached_trace(graph), graph.spec.name, graph.module
    tidy(model)
    make_reshapes_static(model)
    transposed = pull_transposes(model)
    tidy(model)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    blocks: Mapping[str, BlockParts] = {}
    if quantized is not None and name not in VISION_SIDE:
        transposed |= matrices_for_matmul(model)
        waiting = [key for key in unknown_values(model) if key in transposed & parameters.keys()]
        blocks = dequantize_matrices(model, waiting, quantized)
    return NeutralGraph(
        name=name,
        model=model,
        parameters=parameters,
        buffers=dict(module.named_buffers(remove_duplicate=False)),
        tables=graph.tables,
        transposed=frozenset(transposed),
        blocks=blocks,
        norms=graph.norms,
        rotates=graph.rotates,
        gapless=graph.gapless,
        sections=graph.sections,
    )
