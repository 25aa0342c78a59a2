"""What a target is: a list of passes over a neutral graph; and what all of them do."""

from __future__ import annotations

from typing import ClassVar, Protocol

import onnx_ir as ir

from ...errors import GraphNotLowered
from ...trt_plugins.topk_tokens import DOMAIN, OP_TYPE
from ..graphs.neutral import NeutralGraph
from ..ops.topk_tokens import function_body
from ..passes.block_weights import BLOCK_OPSET, has_blocks
from ..passes.rms_norm import fuse_rms_norm
from ..passes.rotary import fuse_rotary
from ..passes.static_reshape import make_reshapes_static
from ..passes.tidy import tidy


class Target(Protocol):
    """One flavour of graph."""

    name: ClassVar[str]
    opset: ClassVar[int]
    dtypes: ClassVar[tuple[str, ...]]
    """Types of weights that its engines take."""
    zero_points: ClassVar[bool]
    """Whether they take quantized weights that are not symmetric."""

    def lower(self, model: ir.Model, graph: NeutralGraph) -> None:
        """Replace the operators ``vtp::CachedAttention`` and ``vtp::VisionAttention``, in place.

        Args:
            model: a copy of the graph's.
            graph: what is known of it.

        Raises:
            GraphNotLowered: it is not what the target knows.
        """
        ...


def lower(graph: NeutralGraph, target: Target) -> ir.Model:
    """The graph in a target's operators.

    Raises:
        GraphNotLowered: an operator is left that no engine knows, or the graph is not what the
            target knows.
    """
    model = graph.model.clone()
    model.opset_imports[""] = target.opset
    target.lower(model, graph)
    tidy(model)
    make_reshapes_static(model)
    tidy(model)
    if has_blocks(model):
        model.opset_imports[""] = max(target.opset, BLOCK_OPSET)
    left = {node.op_type for node in model.graph if node.domain == DOMAIN}
    if left - {OP_TYPE}:
        raise GraphNotLowered(graph.name, f"{', '.join(sorted(left - {OP_TYPE}))} is left")
    model.opset_imports.pop(DOMAIN, None)
    if left:
        model.opset_imports[DOMAIN] = 1
        body = function_body(model.opset_imports[""])
        model.functions[body.identifier()] = body
    for number, node in enumerate(model.graph):
        node.name = f"{node.op_type}_{number}"
    return model


def fuse(model: ir.Model, graph: NeutralGraph) -> None:
    """Fuse norms and rotations to the operators that ONNX has from set 23 on.

    Raises:
        GraphNotLowered: fewer were found than the graph has.
    """
    fuse_rms_norm(model)
    if fuse_rotary(model, graph.sections) == 0 and graph.rotates:
        raise GraphNotLowered(graph.name, "no rotary position embedding was found")
    found = sum(node.op_type == "RMSNormalization" for node in model.graph)
    if graph.norms is not None and found != graph.norms:
        raise GraphNotLowered(
            graph.name, f"{found} RMSNormalization nodes were made, {graph.norms} were expected"
        )
