"""``vtp::TopKTokens`` in a graph: the node, and the function body that defines it.

ONNX Runtime inlines the body. TensorRT takes a plugin where one is registered under the node's
``plugin_namespace``, and the body where none is. The semantics are those of
``trt_plugins.topk_tokens``, whose case table tests this body.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch

from ...trt_plugins.topk_tokens import DOMAIN, OP_TYPE, VERSION
from ...trt_plugins.topk_tokens import topk_tokens as selection
from .node import node

ATTRIBUTES = {
    "plugin_namespace": DOMAIN,
    "plugin_version": VERSION,
    # Input 2 (keep) is a shape input of the plugin, so that output sizes are known before the run.
    "tensorrt_plugin_shape_input_indices": [2],
}


def topk_tokens(
    tokens: torch.Tensor, scores: torch.Tensor, keep: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The node, in a module that is being traced; outside of tracing, what it computes.

    Args:
        tokens: ``(batch, n, dim)``.
        scores: ``(batch, n)`` float32, higher is more important.
        keep: ``(1,)`` int64, how many tokens to keep of each row.

    Returns:
        Kept tokens ``(batch, keep, dim)`` in original order, their indices ``(batch, keep)`` int64.
    """
    if not torch.compiler.is_exporting():
        found = selection(tokens[..., :0].numpy(), scores.numpy(), keep.numpy())[1]
        chosen = torch.from_numpy(found)
        return torch.take_along_dim(tokens, chosen[..., None], dim=1), chosen
    count = keep[0].item()
    torch._check(count >= 1)
    torch._check(count <= tokens.shape[1])
    batch, _, dim = tokens.shape
    kept_tokens, kept = node(
        f"{DOMAIN}::{OP_TYPE}",
        (tokens, scores, keep),
        dict(ATTRIBUTES),
        ((tokens.dtype, (batch, count, dim)), (torch.int64, (batch, count))),
    )
    return kept_tokens, kept


def function_body(opset: int) -> ir.Function:
    """The operator in standard operators: two TopK and one GatherND; no NonZero, no loop.

    The first TopK picks the highest scores (ONNX: the lower index first on ties), the second sorts
    the picked indices; TensorRT sorts no int64, hence float32, which holds every index below 2**24
    exactly. NaN becomes minus infinity, and minus infinity the lowest finite number, with which it
    then ties: the one departure from the specification.
    """
    tokens, scores, keep = (ir.Value(name=name) for name in ("tokens", "scores", "keep"))
    nodes: list[ir.Node] = []

    def add(op: str, *inputs: ir.Value, outputs: int = 1, **attributes: object) -> list[ir.Value]:
        added = ir.node(
            op, list(inputs), attributes=attributes, num_outputs=outputs, name=f"{op}_{len(nodes)}"
        )
        for number, value in enumerate(added.outputs):
            value.name = f"{op}_{len(nodes)}_{number}"
        nodes.append(added)
        return list(added.outputs)

    (finite,) = add("Cast", scores, to=int(ir.DataType.FLOAT))
    (is_nan,) = add("IsNaN", finite)
    (smallest,) = add("Constant", value_float=float(np.finfo(np.float32).min))
    (finite,) = add("Max", finite, smallest)
    (lowest,) = add("Constant", value_float=float("-inf"))
    (finite,) = add("Where", is_nan, lowest, finite)
    _, picked = add("TopK", finite, keep, outputs=2, axis=-1, largest=1, sorted=1)
    (sortable,) = add("Cast", picked, to=int(ir.DataType.FLOAT))
    ascending, _ = add("TopK", sortable, keep, outputs=2, axis=-1, largest=0, sorted=1)
    (kept,) = add("Cast", ascending, to=int(ir.DataType.INT64))
    (axis,) = add("Constant", value_ints=[-1])
    (index,) = add("Unsqueeze", kept, axis)
    (kept_tokens,) = add("GatherND", tokens, index, batch_dims=1)
    graph = ir.Graph(
        [tokens, scores, keep],
        [kept_tokens, kept],
        nodes=nodes,
        opset_imports={"": opset},
        name=OP_TYPE,
    )
    return ir.Function(DOMAIN, OP_TYPE, graph=graph, attributes=[])
