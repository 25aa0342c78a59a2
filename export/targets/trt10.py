"""Target ``trt10``: primitive operators of opset 20, for TensorRT 10.0 to 10.14 (JetPack 6).

Attention is written as two products and a softmax, norms and rotary embeddings stay in their parts.
A language graph reads the filled rows of its cache, and gives out the rows of the new tokens, which
the runtime lets it write right behind those: nothing is copied, and only filled rows are read. See
``docs/decisions/0013-an-appended-cache-for-tensorrt-10.md``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from ...errors import GraphNotLowered
from ...runtime.bundle.contract import KEY_CACHE
from ..graphs.neutral import NeutralGraph
from ..passes.builder import Builder, dims_of, lowest
from ..passes.operators import (
    CACHED,
    VISION,
    inputs_of,
    operators,
    replace_node,
    replace_uses,
    scale_of,
)

_ROWS_FIRST = (0, 2, 1, 3)
_FLOAT, _INT64 = ir.DataType.FLOAT, ir.DataType.INT64


class Trt10Target:
    """Graphs that TensorRT 10.3 parses."""

    name: ClassVar[str] = "trt10"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16", "bfloat16")
    zero_points: ClassVar[bool] = False
    opset: ClassVar[int] = 20

    def lower(self, model: ir.Model, graph: NeutralGraph) -> None:
        """Products and softmax in float32; the cache is appended to."""
        for node in operators(model, VISION):
            _vision_attention(model.graph, node)
        cached = operators(model, CACHED)
        if cached:
            _append(model.graph, cached, graph.name)
        for value in model.graph.inputs:
            if value.name == KEY_CACHE:
                _read_appended_rows(model.graph, value)


def _vision_attention(graph: ir.Graph, node: ir.Node) -> None:
    add = Builder(graph, node)
    query, key, value, *masks = inputs_of(node)
    batch, heads, tokens, head_dim = dims_of(query)
    square = [batch, heads, tokens, tokens]
    scaled = add.scaled(query, scale_of(node))
    turned = add.transposed(key, (0, 1, 3, 2))
    logits = add.cast(add.add("MatMul", [scaled, turned], square, query.dtype), _FLOAT)
    for mask in masks:
        never = add.constant(lowest(_FLOAT))
        logits = add.add("Where", [mask, logits, never], square, _FLOAT)
    weights = add.cast(add.add("Softmax", [logits], square, _FLOAT, axis=-1), value.dtype)
    out = add.add("MatMul", [weights, value], [batch, heads, tokens, head_dim], value.dtype)
    replace_node(graph, node, [add.transposed(out, _ROWS_FIRST)])


@dataclass(frozen=True)
class _Shared:
    """What all layers of a graph read."""

    mask: ir.Value
    """``(tokens, columns)``: what each row of this step may read."""
    apart: ir.Value
    """Shape ``(batch, kv_heads, shared, tokens, columns)``."""
    stacked: ir.Value
    """Shape ``(batch, kv_heads, shared * tokens, columns)``."""


def _append(graph: ir.Graph, nodes: list[ir.Node], name: str) -> None:
    """Let the graph read filled rows ``(batch, past, kv_heads, head_dim)``, and give out new ones.

    What is asked of the size of the cache is answered with the rows that attention reads, and what
    is asked of ``write_index`` with the filled ones.
    """
    *_, first, _, write_index = inputs_of(nodes[0])
    front = Builder(graph, next(iter(graph)))
    filled = front.size(first, 1)
    columns = front.add("Add", [filled, front.new_tokens()], [1], _INT64)
    caches = [value for node in nodes for value in inputs_of(node)[3:5]]
    for cache in caches:
        batch, heads, _, head_dim = dims_of(cache)
        for use in list(cache.uses()):
            asked = use.node
            if asked in nodes or asked is filled.producer():
                continue
            if asked.op_type != "Shape" or asked.attributes.get_int("start", 0) != 2:
                raise GraphNotLowered(name, f"{asked.op_type} reads the cache {cache.name}")
            replace_node(graph, asked, [columns])
        cache.shape = ir.Shape([batch, "past", heads, head_dim])
    shared = _shared(front, nodes[0], filled, columns)
    for node in nodes:
        _cached_attention(graph, node, shared)
    if list(write_index.uses()):
        replace_uses(write_index, filled)
    graph.inputs.remove(write_index)


def _shared(add: Builder, node: ir.Node, filled: ir.Value, columns: ir.Value) -> _Shared:
    query, key = inputs_of(node)[:2]
    _, heads, tokens, _ = dims_of(query)
    kv_heads = dims_of(key)[1]
    assert isinstance(heads, int)
    assert isinstance(kv_heads, int)
    new = add.new_tokens()
    rows = add.add("Add", [add.arange(new, tokens), filled], [tokens], _INT64)
    mask = add.add(
        "LessOrEqual",
        [add.arange(columns, None), add.unsqueezed(rows, [1])],
        [tokens, None],
        ir.DataType.BOOL,
    )
    fixed = add.constant(np.array([0, kv_heads, heads // kv_heads], np.int64))
    apart = add.add("Concat", [fixed, new, columns], [5], _INT64, axis=0)
    rest = add.constant(np.array([0, kv_heads, -1], np.int64))
    return _Shared(mask, apart, add.add("Concat", [rest, columns], [4], _INT64, axis=0))


def _cached_attention(graph: ir.Graph, node: ir.Node, shared: _Shared) -> None:
    """Attention over the filled rows and the new ones, each row up to itself.

    The query heads that share a key head are laid one under the other, so that keys and values are
    not repeated.
    """
    add = Builder(graph, node)
    query, key, value, past_key, past_value, _ = inputs_of(node)
    batch, heads, tokens, head_dim = dims_of(query)
    kv_heads = dims_of(key)[1]
    assert isinstance(heads, int)
    assert isinstance(head_dim, int)
    assert isinstance(kv_heads, int)
    rows = [add.transposed(each, _ROWS_FIRST) for each in (key, value)]
    keys, values = (
        add.transposed(
            add.add("Concat", [past, new], [batch, None, kv_heads, head_dim], new.dtype, axis=1),
            _ROWS_FIRST,
        )
        for past, new in zip((past_key, past_value), rows, strict=True)
    )
    stacked = add.reshaped(
        add.scaled(query, scale_of(node)),
        [0, kv_heads, -1, head_dim],
        [batch, kv_heads, None, head_dim],
    )
    together = [batch, kv_heads, None, None]
    apart = [batch, kv_heads, heads // kv_heads, tokens, None]
    turned = add.transposed(keys, (0, 1, 3, 2))
    logits = add.cast(add.add("MatMul", [stacked, turned], together, query.dtype), _FLOAT)
    logits = add.add("Reshape", [logits, shared.apart], apart, _FLOAT)
    never = add.constant(lowest(_FLOAT))
    logits = add.add("Where", [shared.mask, logits, never], apart, _FLOAT)
    weights = add.add("Softmax", [logits], apart, _FLOAT, axis=-1)
    weights = add.cast(add.add("Reshape", [weights, shared.stacked], together, _FLOAT), value.dtype)
    out = add.add("MatMul", [weights, values], [batch, kv_heads, None, head_dim], value.dtype)
    whole = [batch, heads, tokens, head_dim]
    out = add.reshaped(out, [0, heads, -1, head_dim], whole)
    for present, new, seen in zip(node.outputs[1:], rows, (keys, values), strict=True):
        if present.is_graph_output():
            place = list(graph.outputs).index(present)
            new.name, present.name = present.name, None
            graph.outputs[place] = new
        replace_uses(present, seen)
    replace_node(graph, node, [add.transposed(out, _ROWS_FIRST), None, None])


def _read_appended_rows(graph: ir.Graph, keys: ir.Value) -> None:
    """Let a drop read the keys ``(1, past, kv_heads, head_dim)`` that the stage before gave out."""
    batch, heads, _, head_dim = dims_of(keys)
    uses = list(keys.uses())
    keys.shape = ir.Shape([batch, "past", heads, head_dim])
    front = Builder(graph, next(iter(graph)))
    turned = front.transposed(keys, _ROWS_FIRST)
    for use in uses:
        use.node.replace_input_with(use.idx, turned)
