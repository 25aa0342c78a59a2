"""Target ``ort``: ONNX Runtime's own fused attention operators.

``GroupQueryAttention`` pays only for the filled rows of the cache, where the standard operator
pays for the whole capacity, and it writes into the cache in place when past and present are bound
to one buffer. See ``docs/decisions/0002-two-targets.md``.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ..graphs.neutral import NeutralGraph
from ..passes.builder import Builder, dims_of, lowest
from ..passes.fold_rotary import fold_rotary_into_attention
from ..passes.operators import CACHED, VISION, inputs_of, operators, replace_node, scale_of
from .base import fuse

_MICROSOFT = "com.microsoft"


class OrtTarget:
    """Graphs for ONNX Runtime, CPU and CUDA."""

    name: ClassVar[str] = "ort"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")
    zero_points: ClassVar[bool] = True
    opset: ClassVar[int] = 23
    # The newest that ONNX Runtime 1.23 knows, the last version for Python 3.10 (JetPack 6).

    def lower(self, model: ir.Model, graph: NeutralGraph) -> None:
        """``MultiHeadAttention`` and ``GroupQueryAttention``, which rotates query and key itself
        where positions have no gaps.

        (In the first prefill it reads the first position id only and counts on from it.)
        """
        fuse(model, graph)
        _vision_attention(model)
        _cached_attention(model)
        model.opset_imports[_MICROSOFT] = 1
        if graph.gapless:
            fold_rotary_into_attention(model)


def _vision_attention(model: ir.Model) -> None:
    """``com.microsoft.MultiHeadAttention``: tiled, never holds the full score matrix."""
    biases: dict[ir.Value, ir.Value] = {}
    for node in operators(model, VISION):
        add = Builder(model.graph, node)
        query, key, value, *masks = inputs_of(node)
        inputs: list[ir.Value | None] = [_rows(add, each) for each in (query, key, value)]
        for mask in masks:
            if mask not in biases:
                biases[mask] = _bias(add, mask, query.dtype)
            inputs += [None, None, biases[mask]]
        batch, heads, tokens, head_dim = dims_of(query)
        assert isinstance(heads, int)
        assert isinstance(head_dim, int)
        out = add.add(
            "MultiHeadAttention",
            inputs,
            [batch, tokens, heads * head_dim],
            query.dtype,
            _MICROSOFT,
            num_heads=heads,
            scale=scale_of(node),
        )
        whole = [batch, tokens, heads, head_dim]
        replace_node(model.graph, node, [add.reshaped(out, [0, 0, heads, head_dim], whole)])


def _cached_attention(model: ir.Model) -> None:
    """``com.microsoft.GroupQueryAttention`` with past and present of equal shape."""
    lengths: list[ir.Value] = []
    for node in operators(model, CACHED):
        add = Builder(model.graph, node)
        query, key, value, past_key, past_value, write_index = inputs_of(node)
        if not lengths:
            lengths = _lengths(add, write_index)
        batch, heads, tokens, head_dim = dims_of(query)
        kv_heads = dims_of(key)[1]
        assert isinstance(heads, int)
        assert isinstance(head_dim, int)
        assert isinstance(kv_heads, int)
        made = add.node(
            "GroupQueryAttention",
            [*(_rows(add, each) for each in (query, key, value)), past_key, past_value, *lengths],
            [
                ([batch, tokens, heads * head_dim], query.dtype),
                (dims_of(past_key), past_key.dtype),
                (dims_of(past_value), past_value.dtype),
            ],
            _MICROSOFT,
            num_heads=heads,
            kv_num_heads=kv_heads,
            scale=scale_of(node),
        )
        whole = [batch, tokens, heads, head_dim]
        out = add.reshaped(made.outputs[0], [0, 0, heads, head_dim], whole)
        replace_node(model.graph, node, [out, *made.outputs[1:]])


def _rows(add: Builder, value: ir.Value) -> ir.Value:
    """``(batch, heads, tokens, head_dim)`` -> ``(batch, tokens, heads * head_dim)``."""
    batch, heads, tokens, head_dim = dims_of(value)
    assert isinstance(heads, int)
    assert isinstance(head_dim, int)
    width = heads * head_dim
    return add.reshaped(add.transposed(value, (0, 2, 1, 3)), [0, 0, width], [batch, tokens, width])


def _bias(add: Builder, mask: ir.Value, dtype: ir.DataType | None) -> ir.Value:
    """What is added to the products: nothing where the mask lets a token read, else the lowest."""
    assert dtype is not None
    zero = add.constant(np.zeros((), dtype.numpy()))
    bias = add.add("Where", [mask, zero, add.constant(lowest(dtype))], dims_of(mask), dtype)
    return add.unsqueezed(bias, [0, 1])


def _lengths(add: Builder, write_index: ir.Value) -> list[ir.Value]:
    """Filled rows less one of each sequence ``(batch,)``, and of the longest ``()``, as int32."""
    one = add.constant(np.array([1], np.int64))
    dims = dims_of(write_index)
    kind = ir.DataType.INT64
    more = add.add("Sub", [add.new_tokens(), one], [1], kind)
    last = add.add("Add", [write_index, more], dims, kind)
    most = add.add("ReduceMax", [last], [], kind, keepdims=0)
    total = add.add("Add", [most, add.constant(np.array(1, np.int64))], [], kind)
    wanted = int(ir.DataType.INT32)
    return [
        add.add("Cast", [last], dims, ir.DataType.INT32, to=wanted),
        add.add("Cast", [total], [], ir.DataType.INT32, to=wanted),
    ]
