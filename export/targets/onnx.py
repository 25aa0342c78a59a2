"""Target ``onnx``: standard operators of opset 24, for TensorRT 10.15 and later, 11 and RTX.

The cache is written by ``TensorScatter`` and read by ``Attention`` under an explicit boolean mask.
``is_causal`` is never used: with a cache TensorRT counts "causal" from the upper left corner and
ONNX Runtime from the lower right.
"""

from __future__ import annotations

from typing import ClassVar

import onnx_ir as ir

from ..graphs.neutral import NeutralGraph
from ..passes.builder import Builder, dims_of
from ..passes.operators import CACHED, VISION, inputs_of, operators, replace_node, scale_of
from .base import fuse

_HEADS_LAST = (0, 2, 1, 3)


class OnnxTarget:
    """Graphs of standard ONNX only, but for ``vtp::TopKTokens`` with its function body."""

    name: ClassVar[str] = "onnx"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    zero_points: ClassVar[bool] = False
    opset: ClassVar[int] = 24

    def lower(self, model: ir.Model, graph: NeutralGraph) -> None:
        """``Attention``, and ``TensorScatter`` into the cache; norms and rotations are fused."""
        fuse(model, graph)
        for node in operators(model, VISION):
            add, query = Builder(model.graph, node), inputs_of(node)[0]
            out = add.add(
                "Attention", node.inputs, dims_of(query), query.dtype, scale=scale_of(node)
            )
            replace_node(model.graph, node, [add.transposed(out, _HEADS_LAST)])
        mask = None
        for node in operators(model, CACHED):
            add = Builder(model.graph, node)
            query, key, value, past_key, past_value, write_index = inputs_of(node)
            if mask is None:
                mask = _mask(add, query, past_key, write_index)
            present = [
                add.add(
                    "TensorScatter",
                    [cache, new, write_index],
                    dims_of(cache),
                    cache.dtype,
                    axis=2,
                    mode="linear",
                )
                for cache, new in ((past_key, key), (past_value, value))
            ]
            out = add.add(
                "Attention",
                [query, *present, mask],
                dims_of(query),
                query.dtype,
                scale=scale_of(node),
            )
            replace_node(model.graph, node, [add.transposed(out, _HEADS_LAST), *present])


def _mask(add: Builder, query: ir.Value, cache: ir.Value, write_index: ir.Value) -> ir.Value:
    """``(batch, 1, tokens, capacity)``: row i of this step stands at write_index + i and reads the
    columns up to there."""
    batch, tokens, capacity = dims_of(query)[0], dims_of(query)[2], dims_of(cache)[2]
    rows = add.add(
        "Add",
        [add.unsqueezed(write_index, [1]), add.arange(add.new_tokens(), tokens)],
        [batch, tokens],
        ir.DataType.INT64,
    )
    return add.add(
        "LessOrEqual",
        [add.arange(add.size(cache, 2), capacity), add.unsqueezed(rows, [1, 3])],
        [batch, 1, tokens, capacity],
        ir.DataType.BOOL,
    )
