"""Weights that the graph transposes -> weights stored transposed.

A linear layer keeps its matrix as ``(out, in)`` and the tracer writes ``Transpose`` before
``MatMul``. Runtimes fold it at load, at the price of a second copy; here the weight file simply
holds the matrix as it is multiplied.
"""

from __future__ import annotations

import onnx_ir as ir


def pull_transposes(model: ir.Model) -> set[str]:
    """Remove every 2-D transpose of a weight that has no other reader.

    Returns:
        Names of the initializers that now stand for the transpose of their tensor.
    """
    pulled: set[str] = set()
    for node in list(model.graph):
        if node.op_type != "Transpose" or node.domain:
            continue
        weight = node.inputs[0]
        if (
            weight is None
            or not weight.is_initializer()
            or weight.const_value is not None
            or len(list(weight.uses())) != 1
            or weight.shape is None
            or len(weight.shape) != 2
        ):
            continue
        weight.shape = ir.Shape(reversed(weight.shape.dims))
        ir.convenience.replace_all_uses_with(node.outputs[0], weight)
        model.graph.remove(node, safe=True)
        pulled.add(str(weight.name))
    return pulled
