"""The ONNX file of a graph as a TensorRT parser shall read it.

What is fixed only when an engine is built is written into a copy of the graph file; the bundle's
own files stay as they are, and the weights are read from the bundle's one weight file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ....trt_plugins.topk_tokens import DOMAIN, OP_TYPE

_FLOAT32 = 1  # TensorProto.FLOAT
_LOWEST = -3.4e38


def write_for_tensorrt(
    source: Path, folder: Path, capacity: int | None, dtype: str, *, without_body: bool
) -> Path:
    """Write a copy of a graph into ``folder``, its weights beside it as a link.

    Args:
        source: the graph file in the bundle.
        folder: an empty folder.
        capacity: rows of the KV cache: TensorRT wants them static where a cache is updated.
        dtype: type of the weights.
        without_body: leave out the function body of the selection, so that a parser that prefers
            bodies (TensorRT before 10.7) takes the plugin.
    """
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    if capacity is not None:
        _fix_capacity(model.graph, capacity)
    if dtype == "float32":
        loops = any(node.op_type == "Loop" for node in model.graph.node)
        (_take_attention_apart if loops else _let_attention_decompose)(model.graph)
    if without_body:
        kept = [f for f in model.functions if (f.domain, f.name) != (DOMAIN, OP_TYPE)]
        del model.functions[:]
        model.functions.extend(kept)
    for location in _locations(model):
        (folder / location).symlink_to((source.parent / location).resolve())
    path = folder / source.name
    onnx.save(model, str(path))
    return path


def _fix_capacity(graph: Any, capacity: int) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "capacity":
                dim.dim_value = capacity


def _let_attention_decompose(graph: Any) -> None:
    """TensorRT has no kernel for float32 ``Attention``: let it use its parts.

    The attribute is TensorRT's own; a kernel is still preferred where there is one.
    """
    from onnx.helper import make_attribute

    for node in graph.node:
        if node.op_type == "Attention" and not node.domain:
            node.attribute.append(make_attribute("TRT_decomposable", 1))


def _take_attention_apart(graph: Any) -> None:
    """Write ``Attention`` as two products and a softmax.

    TensorRT-RTX 1.7.1 crashes where a network holds a loop and an attention that it decomposes.
    """
    from onnx.helper import make_node, make_tensor

    nodes = list(graph.node)
    del graph.node[:]
    for node in nodes:
        if node.op_type != "Attention" or node.domain:
            graph.node.append(node)
            continue
        (query, key, value, *masks), (out,) = node.input, node.output
        logits = f"{out}.logits"
        (scale,) = (a.f for a in node.attribute if a.name == "scale")
        graph.initializer.append(make_tensor(f"{out}.scale", _FLOAT32, [], [scale]))
        graph.node.extend(
            [
                make_node("Mul", [query, f"{out}.scale"], [f"{out}.query"]),
                make_node("Transpose", [key], [f"{out}.key"], perm=[0, 1, 3, 2]),
                make_node("MatMul", [f"{out}.query", f"{out}.key"], [logits]),
            ]
        )
        for mask in masks:
            seen = f"{out}.seen"
            graph.initializer.append(make_tensor(f"{seen}.no", _FLOAT32, [], [_LOWEST]))
            graph.node.append(make_node("Where", [mask, logits, f"{seen}.no"], [seen]))
            logits = seen
        graph.node.extend(
            [
                make_node("Softmax", [logits], [f"{out}.weights"], axis=-1),
                make_node("MatMul", [f"{out}.weights", value], [out]),
            ]
        )


def _locations(model: Any) -> set[str]:
    return {
        entry.value
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }


def weight_bytes(source: Path) -> int:
    """Bytes of the weights that a graph reads from the bundle's weight file."""
    import onnx

    model = onnx.load(str(source), load_external_data=False)
    return sum(
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "length"
    )
