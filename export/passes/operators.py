"""The neutral form's operators of domain ``vtp``: found, and replaced."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ...trt_plugins.topk_tokens import DOMAIN
from ..ops import cached_attention, vision_attention

CACHED, VISION = cached_attention.OP_TYPE, vision_attention.OP_TYPE


def operators(model: ir.Model, op_type: str) -> list[ir.Node]:
    """All nodes of an operator of domain ``vtp``, in order."""
    return [node for node in model.graph if node.domain == DOMAIN and node.op_type == op_type]


def inputs_of(node: ir.Node) -> list[ir.Value]:
    """Its inputs, none of which is left out."""
    found = [value for value in node.inputs if value is not None]
    assert len(found) == len(node.inputs)
    return found


def scale_of(node: ir.Node) -> float:
    """Its factor on the dot products."""
    return node.attributes["scale"].as_float()


def replace_node(graph: ir.Graph, node: ir.Node, values: Sequence[ir.Value | None]) -> None:
    """Let values take the place of a node's outputs, graph outputs too, and remove the node.

    Args:
        graph: its graph.
        node: the node.
        values: one for each output; None where nothing reads it any more.
    """
    for old, new in zip(node.outputs, values, strict=True):
        if new is None:
            continue
        if old.is_graph_output():
            new.name, old.name = old.name, None
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def replace_uses(old: ir.Value, new: ir.Value) -> None:
    """Let all nodes that read one value read another one."""
    ir.convenience.replace_all_uses_with(old, new)
