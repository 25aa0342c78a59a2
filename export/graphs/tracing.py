"""From a wrapper module on fake tensors to an ``onnx_ir`` model in neutral form.

Tracing needs no weights: the model is made of fake tensors, which have shape and dtype only. The
graph's weight initializers have no value until ``weights`` gives them their place in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from ...runtime.bundle.contract import GraphSpec, TensorSpec
from ..modules.graphs import WrappedGraph
from ..passes.tidy import quiet

NEUTRAL_OPSET = 20
"""Operator set of a traced graph; all that a trace uses means the same in the later sets that
finished graphs declare."""


_EXAMPLES = {
    "images": 2,
    "batch": 2,
    "groups": 2,
    "rows": 3,
    "scorers": 3,
    "columns": 4,
    "answers": 2,
    "raters": 5,
    "image_tokens": 6,
    "candidates": 6,
    "texts": 7,
    "tokens": 11,
    "capacity": 24,
}
"""Sizes while a graph is traced, by the name of the dimension: above 1, which would be taken for a
constant, and no two of one graph alike, which would be taken for one."""


def trace(graph: WrappedGraph) -> ir.Model:
    """Trace a wrapper module, its parameters fake, to ONNX."""
    spec, module = graph.spec, graph.module
    inputs = {tensor.name: _example(tensor) for tensor in spec.inputs}
    dynamic = {tensor.name: _dynamic(tensor) for tensor in spec.inputs}
    with quiet(), torch.no_grad():
        program = torch.export.export(
            module,
            (),
            kwargs=graph.arguments(inputs),
            dynamic_shapes=graph.arguments(dynamic),
            strict=False,
        )
        _drop_whole_splits(program.graph)
        onnx_program = torch.onnx.export(
            program, opset_version=NEUTRAL_OPSET, optimize=False, verbose=False
        )
    assert onnx_program is not None
    model = onnx_program.model
    model.graph.name = spec.name
    _forget_fake_values(model, module)
    _name_ends(model, spec)
    return model


def _example(tensor: TensorSpec) -> torch.Tensor:
    shape = [_EXAMPLES[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def _dynamic(tensor: TensorSpec) -> dict[int, Any]:
    """The axes of an input that have no fixed size."""
    found = (axis for axis, dim in enumerate(tensor.shape) if isinstance(dim, str))
    return dict.fromkeys(found, torch.export.Dim.DYNAMIC)


def _drop_whole_splits(graph: torch.fx.Graph) -> None:
    """Let what reads the one piece of a split into one piece read what is split.

    Modelling code splits by the lengths of images, and here is one. ONNX would make a sequence of
    tensors of it, which TensorRT does not know.
    """
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten.split_with_sizes.default or len(node.args[1]) > 1:
            continue
        for piece in list(node.users):
            piece.replace_all_uses_with(node.args[0])
            graph.erase_node(piece)
        graph.erase_node(node)


def _forget_fake_values(model: ir.Model, module: nn.Module) -> None:
    known = {key for key, _ in module.named_parameters()} | {k for k, _ in module.named_buffers()}
    for key, value in list(model.graph.initializers.items()):
        if key in known:
            value.const_value = None


def _name_ends(model: ir.Model, spec: GraphSpec) -> None:
    renamed: dict[str, str] = {}
    _separate_ends(model)
    for values, wanted in ((model.graph.inputs, spec.inputs), (model.graph.outputs, spec.outputs)):
        if len(values) != len(wanted):
            raise RuntimeError(f"graph has {len(values)} ends, expected {wanted}")
        for value, tensor in zip(values, wanted, strict=True):
            for found, dim in zip(value.shape or (), tensor.shape, strict=True):
                if isinstance(found, ir.SymbolicDim) and found.value and isinstance(dim, str):
                    renamed.setdefault(found.value, dim)
            value.name = tensor.name
            value.shape = ir.Shape(tensor.shape)
    for node in model.graph:
        for value in node.outputs:
            if value.shape is not None and value not in model.graph.outputs:
                value.shape = ir.Shape(
                    renamed.get(dim.value or "", dim) if isinstance(dim, ir.SymbolicDim) else dim
                    for dim in value.shape
                )


def _separate_ends(model: ir.Model) -> None:
    """Where an input goes out as it came in, put a node between, so that both can have a name."""
    for number, value in enumerate(model.graph.outputs):
        if value.is_graph_input():
            node = ir.node("Identity", [value])
            node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
            model.graph.append(node)
            model.graph.outputs[number] = node.outputs[0]


def node_counts(model: ir.Model) -> dict[str, int]:
    """How many nodes of each ``domain::type`` the graph has."""
    counts: dict[str, int] = {}
    for node in model.graph:
        key = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        counts[key] = counts.get(key, 0) + 1
    return counts


def unknown_values(model: ir.Model) -> Sequence[str]:
    """Names of initializers that still wait for a value, in graph order."""
    return [key for key, value in model.graph.initializers.items() if value.const_value is None]
