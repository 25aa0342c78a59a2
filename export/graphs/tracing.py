"""From a wrapper module on fake tensors to an ``onnx_ir`` model in neutral form.

Tracing needs no weights: the model is made of fake tensors, which have shape and dtype only. The
graph's weight initializers have no value until ``weights`` gives them their place in the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import nn

from ..passes.tidy import quiet

Shape = tuple[str | int, ...]

NEUTRAL_OPSET = 20
"""Operator set of a traced graph; all that a trace uses means the same in the later sets that
finished graphs declare."""


def trace(
    module: nn.Module,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Shape],
    outputs: Mapping[str, Shape],
    name: str,
) -> ir.Model:
    """Trace ``module(**arguments)`` to ONNX.

    Args:
        module: the wrapper, its parameters fake.
        arguments: example arguments (fake tensors; lists and tuples of them), whose flattened order
            is the order of ``inputs``.
        inputs: graph input names with their shapes; a text is a symbolic dimension.
        outputs: graph output names with their shapes.
        name: name of the graph.
    """
    names = iter(inputs.items())
    dims: dict[str, Any] = {}

    def dynamic(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            _, shape = next(names)
            return {
                axis: dims.setdefault(dim, torch.export.Dim.DYNAMIC)
                for axis, dim in enumerate(shape)
                if isinstance(dim, str)
            }
        if isinstance(value, (list, tuple)):
            return type(value)(dynamic(item) for item in value)
        raise TypeError(f"not a tensor: {type(value)}")

    shapes = {key: dynamic(value) for key, value in arguments.items()}
    with quiet(), torch.no_grad():
        program = torch.export.export(
            module, (), kwargs=dict(arguments), dynamic_shapes=shapes, strict=False
        )
        _drop_whole_splits(program.graph)
        onnx_program = torch.onnx.export(
            program, opset_version=NEUTRAL_OPSET, optimize=False, verbose=False
        )
    assert onnx_program is not None
    model = onnx_program.model
    model.graph.name = name
    _forget_fake_values(model, module)
    _name_ends(model, inputs, outputs)
    return model


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


def _name_ends(model: ir.Model, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> None:
    renamed: dict[str, str] = {}
    _separate_ends(model)
    for values, wanted in ((model.graph.inputs, inputs), (model.graph.outputs, outputs)):
        if len(values) != len(wanted):
            raise RuntimeError(f"graph has {len(values)} ends, expected {list(wanted)}")
        for value, (name, shape) in zip(values, wanted.items(), strict=True):
            for found, dim in zip(value.shape or (), shape, strict=True):
                if isinstance(found, ir.SymbolicDim) and found.value and isinstance(dim, str):
                    renamed.setdefault(found.value, dim)
            value.name = name
            value.shape = ir.Shape(shape)
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
