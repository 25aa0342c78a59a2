"""What the selection costs: its nodes cut out of the vision graph and run alone.

The nodes that ``scores`` and ``kept`` need and the features do not: the attention row of the [CLS]
token, its mean, ``TopKTokens``; with them the reshapes and transposes that bring query and key into
the layout that the row needs. Run as a graph of their own on random tensors of the right shapes, so
the figure also holds the cost of a call, and is an upper bound.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx_ir as ir

_LAYOUT = ("Transpose", "Reshape")


def selection_ms(vision_graph: Path, keep: int, threads: int, repeat: int = 50) -> float:
    """Median milliseconds of the selection of ``keep`` tokens of one image; 0 without one."""
    model = ir.load(vision_graph)
    chosen = [node for node in model.graph if node.op_type == "TopKTokens"]
    if not chosen:
        return 0.0
    (picker,) = chosen
    inputs = _boundary(model.graph, picker)
    graph = ir.convenience.extract(model.graph, inputs, list(picker.outputs))
    functions = list(model.functions.values())
    cut = ir.Model(graph, ir_version=model.ir_version, functions=functions)
    cut.opset_imports.update(model.opset_imports)
    session = _session(cut, threads)
    random = np.random.default_rng(0)
    feeds = {
        value.name: np.array([keep])
        if value.name == "keep"
        else random.standard_normal(
            [d if isinstance(d, int) else 1 for d in value.shape or ()]
        ).astype(np.float32)
        for value in inputs
    }
    times = []
    for _ in range(repeat + 1):
        started = perf_counter()
        session.run(None, feeds)
        times.append(perf_counter() - started)
    return float(np.median(times[1:]) * 1e3)


def _boundary(graph: ir.Graph, picker: ir.Node) -> list[ir.Value]:
    """Where the selection begins: the features, the keep, the projected query and key."""
    features, *others = picker.inputs
    outside = _ancestors([features])
    inside = {node for node in _ancestors(others) if node not in outside} | {picker}
    found: list[ir.Value] = []
    for node in graph:
        for value in node.inputs if node in inside else ():
            if value is None or value.is_initializer() or value.producer() in inside:
                continue
            start = value if value is features else _before_layout(value)
            if start not in found:
                found.append(start)
    return found


def _ancestors(values: Any) -> set[ir.Node]:
    seen: set[ir.Node] = set()
    waiting = [value.producer() for value in values if value is not None]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [value.producer() for value in node.inputs if value is not None]
    return seen


def _before_layout(value: ir.Value) -> ir.Value:
    node = value.producer()
    while node is not None and node.op_type in _LAYOUT and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value


def _session(model: ir.Model, threads: int) -> Any:
    import onnxruntime

    # No weight is needed: constants of the selection are small and stand in the graph itself.
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
