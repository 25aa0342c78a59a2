"""Matrix products of 8 bits: ``QuantizeLinear`` and ``DequantizeLinear`` around them, by ONNX
Runtime's quantizer.

Weights are symmetric with a scale for each output, activations have one scale for a tensor. For
ONNX Runtime (target ``ort``) activations are unsigned with a zero point, which it multiplies in
whole numbers on any processor; for TensorRT they are symmetric, as it asks. Products are not
rounded again: what is added to the residual stays as exact as it was.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_LARGEST = {"int8": 127.0, "fp8": 448.0}


def units(path: Path) -> dict[str, list[str]]:
    """Matrix products of a graph, by the part of the model that they belong to.

    Returns:
        ``layer 3`` (counted within the graph) or ``projector`` -> names of nodes; in order.
    """
    model = onnx.load(str(path), load_external_data=False)
    weights = {weight.name for weight in model.graph.initializer}
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            continue
        layer = _LAYER.search(node.input[1])
        name = f"layer {layer[1]}" if layer else "projector"
        found.setdefault(name, []).append(node.name)
    return found


def quantize_graph(
    path: Path, ranges: Any, form: str, whole_numbers: bool, left: Collection[str] = ()
) -> onnx.ModelProto:
    """A graph with quantized matrix products, all of its weights inside.

    Args:
        path: the graph; its weights are read.
        ranges: of its tensors, as ``RangeEngine.ranges`` has them.
        form: one of ``FORMS``.
        whole_numbers: unsigned activations with a zero point.
        left: names of nodes that stay as they are.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.load(str(path))
    floats = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.dims) == 2}
    floats = {name: numpy_helper.to_array(tensor) for name, tensor in floats.items()}
    unsigned = whole_numbers and form == "int8"
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if unsigned else QuantType.QInt8,
        tensors_range=ranges,
        nodes_to_quantize=[name for names in units(path).values() for name in names],
        nodes_to_exclude=list(left),
        op_types_to_quantize=["MatMul"],
        extra_options={
            "ActivationSymmetric": not unsigned,
            "WeightSymmetric": True,
            "MatMulConstBOnly": True,
            "OpTypesToExcludeOutputQuantization": ["MatMul"],
            "DedicatedQDQPair": True,
        },
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    _own_parameters(made)
    if form == "fp8":
        _as_float8(made, floats)
    return made


def _own_parameters(model: onnx.ModelProto) -> None:
    """Give each ``QuantizeLinear`` scale and zero point of its own.

    ONNX Runtime merges equal ones, and does not multiply in whole numbers what two products share.
    """
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if node.op_type != "QuantizeLinear":
            continue
        for place in (1, 2):
            name = node.input[place]
            if name not in taken:
                taken.add(name)
                continue
            copy = onnx.TensorProto()
            copy.CopyFrom(values[name])
            copy.name = f"{name}.{number}"
            model.graph.initializer.append(copy)
            for one in (node, *readers[node.output[0]]):
                one.input[place] = copy.name


def _as_float8(model: onnx.ModelProto, floats: dict[str, np.ndarray]) -> None:
    """Numbers of int8 -> of FLOAT8E4M3FN; the ends of every range stay."""
    import ml_dtypes

    e4m3 = np.dtype(ml_dtypes.float8_e4m3fn)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    changed: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        data, scale_name, zero_name = node.input
        scale = numpy_helper.to_array(values[scale_name])
        if scale_name not in changed:
            changed.add(scale_name)
            wider = (scale * (_LARGEST["int8"] / _LARGEST["fp8"])).astype(scale.dtype)
            values[scale_name].CopyFrom(numpy_helper.from_array(wider, scale_name))
        else:
            wider = scale
        zero = (
            np.zeros(numpy_helper.to_array(values[zero_name]).shape, e4m3)
            if (zero_name not in changed)
            else None
        )
        if zero is not None:
            changed.add(zero_name)
            values[zero_name].CopyFrom(_float8(zero, zero_name))
        if data in values and data not in changed:
            changed.add(data)
            exact = floats[data.removesuffix("_quantized")]
            rounded = (exact / wider).clip(-_LARGEST["fp8"], _LARGEST["fp8"]).astype(e4m3)
            values[data].CopyFrom(_float8(rounded, data))


def _float8(array: np.ndarray, name: str) -> onnx.TensorProto:
    return onnx.helper.make_tensor(
        name, onnx.TensorProto.FLOAT8E4M3FN, array.shape, array.tobytes(), raw=True
    )
