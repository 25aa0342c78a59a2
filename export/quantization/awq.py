"""Decoder matrices in 4 bits, inputs that carry much first: AWQ.

What a matrix is multiplied with is small in most channels and large in a few. A channel's weights
are made larger by a power of what its inputs are in the mean, its inputs smaller by as much, and
then the weights are rounded: the channels that matter lose less. The power is the one of a grid by
which the product changes least. "AWQ: Activation-aware Weight Quantization for LLM Compression and
Acceleration", https://arxiv.org/abs/2306.00978, section 3.2; its clipping of weights is left out.

Matrices that read the same input share their channels' factors, so that one ``Mul`` serves them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...runtime.bundle.manifest import WeightsRecord
from ..weights.block_rounding import dequantize, quantize

HOW = WeightsRecord(bits=4, block=32, symmetric=True)
POWERS = tuple(step / 10 for step in range(11))
ROWS = 128
"""Rows of each input that powers are chosen by."""
_OPSET = 21
"""First operator set whose ``DequantizeLinear`` knows blocks."""


def inputs_of(
    path: Path, feeds: Sequence[Mapping[str, np.ndarray]], nodes: Collection[str]
) -> dict[str, np.ndarray]:
    """What matrices of a graph are multiplied with.

    Args:
        path: the graph.
        feeds: inputs of some of its runs.
        nodes: names of the products.

    Returns:
        Name of the tensor -> ``(rows, in)`` float32, up to ``ROWS`` of them, spread over the runs.
    """
    import onnxruntime

    model = onnx.load(str(path), load_external_data=False)
    names = sorted({node.input[0] for node in model.graph.node if node.name in nodes})
    known = {value.name: value for value in (*model.graph.value_info, *model.graph.input)}
    del model.graph.output[:]
    model.graph.output.extend(known[name] for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(path.parent)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    asked = [value.name for value in session.get_inputs()]
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    each = -(-ROWS // max(len(feeds), 1))
    for feed in feeds:
        values = session.run(names, {name: feed[name] for name in asked})
        for name, value in zip(names, values, strict=True):
            rows = np.asarray(value, np.float32).reshape(-1, value.shape[-1])
            taken = np.unique(np.linspace(0, len(rows) - 1, min(each, len(rows))).astype(int))
            found[name].append(rows[taken])
    return {name: np.concatenate(rows) for name, rows in found.items()}


def find_factors(
    path: Path, feeds: Sequence[Mapping[str, np.ndarray]], nodes: Collection[str]
) -> dict[str, np.ndarray]:
    """By how much to enlarge the weights of each channel of a graph's matrices.

    Args:
        path: the graph; its weights are read.
        feeds: inputs of some of its runs.
        nodes: names of the products; those whose matrix does not split into blocks are left out.

    Returns:
        Name of the matrix -> ``(in,)`` float32, the same for all that read one input.
    """
    seen = inputs_of(path, feeds, nodes)
    graph = onnx.load(str(path)).graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    found: dict[str, np.ndarray] = {}
    for name, products in _readers(graph, nodes).items():
        held = [numpy_helper.to_array(values[node.input[1]]) for node in products]
        wide = [weight.astype(np.float32) for weight in held]
        found |= dict.fromkeys(
            (node.input[1] for node in products), best_factor(seen[name], wide, held[0].dtype)
        )
    return found


def best_factor(seen: np.ndarray, weights: Sequence[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """The factor ``(in,)`` of a grid by which products change least.

    Args:
        seen: ``(rows, in)``, inputs of the matrices.
        weights: ``(in, out)`` each.
        dtype: type of the scales of rounded weights.
    """
    size = np.maximum(np.abs(seen).mean(axis=0), 1e-6)
    best, least = np.ones(len(size), np.float32), np.inf
    for power in POWERS:
        factor = size**power
        factor = (factor / np.sqrt(factor.max() * factor.min())).astype(np.float32)
        loss = 0.0
        for weight in weights:
            # The exact product less that of the rounded matrix, with the factor taken back.
            change = _rounded(weight * factor[:, None], dtype) / factor[:, None] - weight
            loss += float(np.square(seen @ change, dtype=np.float64).sum())
        if loss < least:
            best, least = factor, loss
    return best


def _rounded(weight: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return dequantize(quantize(np.ascontiguousarray(weight.T), HOW, dtype), HOW).T


def awq_graph(
    path: Path, nodes: Collection[str], factors: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    """A graph with matrices of 4 bits, all of its weights inside.

    Args:
        path: the graph; its weights are read.
        nodes: names of the products; those without a factor stay.
        factors: as from ``find_factors``, of this graph or of the same in another target.
    """
    model = onnx.load(str(path))
    graph = model.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    for name, products in _readers(graph, nodes).items():
        factor = factors[products[0].input[1]]
        dtype = numpy_helper.to_array(values[products[0].input[1]]).dtype
        smaller = f"{name}.awq"
        graph.initializer.append(
            numpy_helper.from_array((1 / factor).astype(dtype), f"{smaller}.factor")
        )
        scaling = helper.make_node("Mul", [name, f"{smaller}.factor"], [smaller], name=smaller)
        _insert_before(graph, products, scaling)
        for node in products:
            weight = numpy_helper.to_array(values[node.input[1]]).astype(np.float32)
            _dequantized(graph, node, weight * factor[:, None], dtype)
            node.input[0] = smaller
    used = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
    for opset in model.opset_import:
        if not opset.domain:
            opset.version = max(opset.version, _OPSET)
    return model


def _readers(graph: onnx.GraphProto, nodes: Collection[str]) -> dict[str, list[onnx.NodeProto]]:
    """Input -> the products that read it and whose matrix splits into blocks."""
    shapes = {tensor.name: tensor.dims for tensor in graph.initializer}
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.name in nodes and _splits(shapes[node.input[1]]):
            found.setdefault(node.input[0], []).append(node)
    return found


def _splits(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[0] % HOW.block == 0 and shape[1] % 2 == 0


def _insert_before(
    graph: onnx.GraphProto, products: Sequence[onnx.NodeProto], node: onnx.NodeProto
) -> None:
    names = {product.name for product in products}
    at = next(number for number, other in enumerate(graph.node) if other.name in names)
    graph.node.insert(at, node)


def _dequantized(
    graph: onnx.GraphProto, node: onnx.NodeProto, weight: np.ndarray, dtype: np.dtype
) -> None:
    """Put a matrix ``(in, out)`` into the graph in 4 bits, and let the product read it."""
    name = node.input[1]
    made = quantize(np.ascontiguousarray(weight.T), HOW, dtype)
    numbers = helper.make_tensor(
        f"{name}_quantized", onnx.TensorProto.INT4, weight.shape, made.values.tobytes(), raw=True
    )
    graph.initializer.extend([numbers, numpy_helper.from_array(made.scales, f"{name}_scale")])
    dequantizing = helper.make_node(
        "DequantizeLinear",
        [numbers.name, f"{name}_scale"],
        [f"{name}_dequantized"],
        name=f"{name}_dequantize",
        axis=0,
        block_size=HOW.block,
    )
    _insert_before(graph, [node], dequantizing)
    node.input[1] = f"{name}_dequantized"
