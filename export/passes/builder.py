"""Nodes put into a graph by hand, with the shapes that other passes ask for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

Dims = Sequence[int | str | ir.SymbolicDim | None]


class Builder:
    """Adds nodes in front of one.

    Args:
        graph: the graph.
        before: the node.
    """

    def __init__(self, graph: ir.Graph, before: ir.Node) -> None:
        self.graph, self._before = graph, before

    def add(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        shape: Dims | None,
        dtype: ir.DataType | None,
        domain: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> ir.Value:
        """A node of one output.

        Args:
            op: operator type.
            inputs: values.
            shape: of the output; None: not known.
            dtype: of the output.
            domain: of the operator.
            attributes: of the node.
        """
        (out,) = self.node(op, inputs, [(shape, dtype)], domain, **attributes).outputs
        return out

    def node(
        self,
        op: str,
        inputs: Sequence[ir.Value | None],
        outputs: Sequence[tuple[Dims | None, ir.DataType | None]],
        domain: str = "",
        **attributes: int | float | str | Sequence[int],
    ) -> ir.Node:
        """A node of several outputs, shape and type of each."""
        made = ir.node(
            op, list(inputs), attributes=attributes, num_outputs=len(outputs), domain=domain
        )
        for value, (shape, dtype) in zip(made.outputs, outputs, strict=True):
            value.shape = None if shape is None else ir.Shape(shape)
            value.type = None if dtype is None else ir.TensorType(dtype)
        self.graph.insert_before(self._before, made)
        return made

    def transposed(self, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        """The value with its axes in another order."""
        dims = dims_of(value)
        return self.add("Transpose", [value], [dims[axis] for axis in perm], value.dtype, perm=perm)

    def reshaped(self, value: ir.Value, target: Sequence[int], shape: Dims) -> ir.Value:
        """The value with another shape; in ``target`` 0 copies an axis, -1 is the one rest."""
        wanted = constant(self.graph, np.array(target, dtype=np.int64))
        return self.add("Reshape", [value, wanted], shape, value.dtype)

    def size(self, value: ir.Value, axis: int) -> ir.Value:
        """Length of an axis, ``(1,)`` int64."""
        return self.add("Shape", [value], [1], ir.DataType.INT64, start=axis, end=axis + 1)

    def new_tokens(self) -> ir.Value:
        """Tokens that a language graph reads, ``(1,)`` int64: its first input is ``(batch, tokens,
        width)``."""
        return self.size(self.graph.inputs[0], 1)

    def constant(self, array: np.ndarray) -> ir.Value:
        """An initializer with these values."""
        return constant(self.graph, array)

    def unsqueezed(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """The value with axes of length 1 more; ``axes`` are places in the result."""
        dims = dims_of(value)
        for axis in axes:
            dims.insert(axis, 1)
        places = self.constant(np.array(axes, np.int64))
        return self.add("Unsqueeze", [value, places], dims, value.dtype)

    def arange(self, size: ir.Value, dim: int | str | ir.SymbolicDim | None) -> ir.Value:
        """Whole numbers from 0 up to a size ``(1,)``, which the shape calls ``dim``."""
        end = self.add("Squeeze", [size], [], ir.DataType.INT64)
        first, step = (self.constant(np.array(number, np.int64)) for number in (0, 1))
        return self.add("Range", [first, end, step], [dim], ir.DataType.INT64)

    def scaled(self, value: ir.Value, factor: float) -> ir.Value:
        """The value times a number."""
        assert value.dtype is not None
        number = self.constant(np.array(factor, value.dtype.numpy()))
        return self.add("Mul", [value, number], dims_of(value), value.dtype)

    def cast(self, value: ir.Value, dtype: ir.DataType | None) -> ir.Value:
        """The value in another type, or itself where it has it."""
        if dtype is None or value.dtype == dtype:
            return value
        return self.add("Cast", [value], dims_of(value), dtype, to=int(dtype))


def lowest(dtype: ir.DataType) -> np.ndarray:
    """The lowest finite number of a type, ``()``."""
    import ml_dtypes

    return np.array(ml_dtypes.finfo(dtype.numpy()).min, dtype.numpy())


def dims_of(value: ir.Value) -> list[int | str | ir.SymbolicDim | None]:
    """The dimensions of a value whose shape is known."""
    assert value.shape is not None
    return list(value.shape.dims)


def constant(graph: ir.Graph, array: np.ndarray) -> ir.Value:
    """An initializer with these values, one for all who ask."""
    text = "_".join(str(item) for item in array.reshape(-1).tolist())
    kind = "shape" if array.dtype == np.int64 and array.ndim == 1 else f"constant_{array.dtype}"
    name = f"{kind}_{text}".replace("-", "m").replace(".", "p").replace("+", "")
    if name not in graph.initializers:
        graph.initializers[name] = ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
            shape=ir.Shape(array.shape),
            const_value=ir.tensor(array, name=name),
        )
    return graph.initializers[name]
