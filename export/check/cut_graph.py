"""A language graph that ends after some of its layers, over the same weight file.

A model whose decoder does not fit into memory is checked on its first layers: on the graph that was
exported, cut, so that what is compared is its own nodes on its own weights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from ...errors import GraphNotLowered
from ...runtime.bundle.contract import (
    CHECK,
    HIDDEN_STATES_OUT,
    LOGITS,
    cache_place,
    is_cache,
    is_present,
    past,
)

_LAYER = re.compile(r"layers\.(\d+)\.")
_AFTER = ("norm.", "head.")


def cut_graph(source: Path, layers: int, width: int, out: Path) -> ir.Model:
    """Write the graph of the first ``layers`` layers of a first language stage.

    Its output ``logits (batch, width)`` is the hidden state of the last token in float32; its other
    inputs and outputs are those of the stage, as far as these layers have them.

    Args:
        source: the stage's file.
        layers: layers to keep, at least one.
        width: of the hidden state.
        out: file to write, beside ``source``.

    Raises:
        GraphNotLowered: the place to cut was not found.
    """
    model = ir.load(source)
    graph = model.graph
    _ask_first_cache(graph)
    values = [*graph.inputs, *graph.initializers.values()]
    late = _readers(value for value in values if _layer(str(value.name), layers) >= layers)
    hidden = _end(graph, late, values, layers)
    row = ir.node("Gather", [hidden, _constant(graph, "last_row", -1)], {"axis": 1})
    last = ir.node("Cast", row.outputs, {"to": int(ir.DataType.FLOAT)})
    graph.extend([row, last])
    if hidden.name == HIDDEN_STATES_OUT and hidden.shape is not None and hidden.shape[-1] != width:
        # Planes of later layers follow the hidden state.
        own = {"own_start": 0, "own_end": width, "own_axis": 1}
        places = [_constant(graph, name, [place]) for name, place in own.items()]
        last = ir.node("Slice", [*last.outputs, *places])
        graph.append(last)
    logits = last.outputs[0]
    for value in graph.outputs:
        if value.name == LOGITS:
            value.name = f"{LOGITS}_of_all"
    logits.name, logits.dtype = LOGITS, ir.DataType.FLOAT
    logits.shape = ir.Shape([_stage_shape(graph)[0], width])
    presents = [
        value
        for value in graph.outputs
        if is_present(str(value.name)) and cache_place(str(value.name))[0] < layers
    ]
    graph.outputs[:] = [logits, *presents]
    RemoveUnusedNodesPass()(model)
    graph.inputs[:] = [value for value in graph.inputs if list(value.uses())]
    graph.name = CHECK
    ir.save(model, out)
    return model


def _constant(graph: ir.Graph, name: str, value: int | list[int]) -> ir.Value:
    tensor = ir.tensor(np.array(value, dtype=np.int64), name=name)
    made = ir.Value(
        name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(made)
    return made


def _ask_first_cache(graph: ir.Graph) -> None:
    """Let layer 0's cache tell the size that those of all layers have."""
    caches = {str(value.name): value for value in graph.inputs}
    for node in graph:
        name = str(node.inputs[0].name) if node.op_type == "Shape" and node.inputs[0] else ""
        if is_cache(name):
            node.replace_input_with(0, caches[past(0, cache_place(name)[1])])


def _stage_shape(graph: ir.Graph) -> ir.Shape:
    states = graph.inputs[0].shape
    assert states is not None
    return states


def _layer(name: str, layers: int) -> int:
    """Layer that a weight or a cache belongs to; what follows the layers counts as after all."""
    if is_cache(name):
        return cache_place(name)[0]
    found = _LAYER.match(name)
    if found:
        return int(found[1])
    return layers if name.startswith(_AFTER) else -1


def _readers(values: Iterable[ir.Value]) -> set[ir.Node]:
    """Nodes that depend on any of the values."""
    found: set[ir.Node] = set()
    waiting = list(values)
    while waiting:
        for use in waiting.pop().uses():
            if use.node not in found:
                found.add(use.node)
                waiting += use.node.outputs
    return found


def _end(graph: ir.Graph, late: set[ir.Node], values: list[ir.Value], layers: int) -> ir.Value:
    """The hidden states after the last layer that is kept: what it made and later layers add to.

    A guide's later layers also add to the attention that is summed up, which is of another rank.
    """
    rank = len(_stage_shape(graph))
    mine = _readers(value for value in values if _layer(str(value.name), layers) == layers - 1)
    found = [
        value
        for node in graph
        if node in mine and node not in late
        for value in node.outputs
        if (value.shape is None or len(value.shape) == rank)
        and (
            any(use.node in late and use.node.op_type == "Add" for use in value.uses())
            or value.name == HIDDEN_STATES_OUT
        )
    ]
    if len(found) != 1:
        raise GraphNotLowered(
            str(graph.name), f"{len(found)} places were found to cut it after layer {layers - 1}"
        )
    return found[0]
