"""Matrices of linear layers -> ``DequantizeLinear`` of numbers of few bits.

The one form that every target takes: TensorRT reads the numbers as they are, ONNX Runtime fuses
each pair of ``DequantizeLinear`` and ``MatMul`` to its matrix product of 4 or 8 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from ...runtime.bundle.manifest import WeightsRecord

PARTS = ("values", "scales", "zeros")
"""Names of what a matrix is stored as; the last only where it is not symmetric."""

BLOCK_OPSET = 21
"""First operator set whose ``DequantizeLinear`` knows blocks."""


def has_blocks(model: ir.Model) -> bool:
    """Whether a graph reads weights of few bits, block by block."""
    return any(
        node.op_type == "DequantizeLinear" and "block_size" in node.attributes
        for node in model.graph
    )


def matrices_for_matmul(model: ir.Model) -> set[str]:
    """``Gemm`` with a weight that it transposes -> ``MatMul``, and ``Add`` of the bias.

    Returns:
        Names of the initializers that now stand for the transpose of their tensor.
    """
    turned: set[str] = set()
    for node in list(model.graph):
        weight = node.inputs[1] if node.op_type == "Gemm" and not node.domain else None
        if (
            weight is None
            or not weight.is_initializer()
            or weight.const_value is not None
            or len(list(weight.uses())) != 1
            or weight.shape is None
            or not _plain(node)
        ):
            continue
        weight.shape = ir.Shape(reversed(weight.shape.dims))
        product = ir.node("MatMul", [node.inputs[0], weight], name=node.name)
        made = [product]
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            made.append(ir.node("Add", [product.outputs[0], node.inputs[2]]))
        for one in made:
            one.outputs[0].shape, one.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], made, node.outputs, made[-1].outputs
        )
        turned.add(str(weight.name))
    return turned


def _plain(gemm: ir.Node) -> bool:
    """Whether it computes ``a @ b.T + c``."""
    factors = [gemm.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    turns = [gemm.attributes.get_int(name, 0) for name in ("transA", "transB")]
    bias = len(gemm.inputs) > 2 and gemm.inputs[2] is not None
    return factors[0] == 1 and (factors[1] == 1 or not bias) and turns == [0, 1]


@dataclass(frozen=True)
class BlockParts:
    """A matrix that is stored in few bits."""

    shape: tuple[int, int]
    """``(in, out)``."""
    parts: Mapping[str, str]
    """Of ``PARTS``, the initializer that stands for each."""


def dequantize_matrices(
    model: ir.Model, names: list[str], how: WeightsRecord
) -> dict[str, BlockParts]:
    """Put a ``DequantizeLinear`` in place of each of the given initializers ``(in, out)``.

    Returns:
        Of each of them the initializers that stand for it, which have no value yet.
    """
    number = {4: "INT4", 8: "INT8"}[how.bits]
    kind = ir.DataType[number if how.symmetric else f"U{number}"]
    read: dict[str, BlockParts] = {}
    for name in names:
        weight = model.graph.initializers[name]
        assert weight.shape is not None
        inputs, outputs = (int(dim) for dim in weight.shape)
        blocks = ir.Shape([inputs // how.block, outputs])
        parts = [(PARTS[0], kind, weight.shape), (PARTS[1], weight.dtype, blocks)]
        parts += [] if how.symmetric else [(PARTS[2], kind, blocks)]
        values = []
        for part, dtype, shape in parts:
            assert dtype is not None
            value = ir.Value(name=f"{name}.{part}", type=ir.TensorType(dtype), shape=shape)
            model.graph.initializers[f"{name}.{part}"] = value
            values.append(value)
        node = ir.node(
            "DequantizeLinear", values, attributes={"axis": 0, "block_size": how.block}, name=name
        )
        node.outputs[0].shape, node.outputs[0].type = weight.shape, weight.type
        first = next(each for each in model.graph if weight in each.inputs)
        model.graph.insert_before(first, node)
        ir.convenience.replace_all_uses_with(weight, node.outputs[0])
        del model.graph.initializers[name]
        node.outputs[0].name = f"{name}.dequantized"
        read[name] = BlockParts((inputs, outputs), {part: f"{name}.{part}" for part, _, _ in parts})
    return read
