"""The ONNX function body of ``vtp::TopKTokens`` answers to the case table of the operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from vtp.export.ops.topk_tokens import ATTRIBUTES, function_body
from vtp.trt_plugins.topk_tokens import CASES, DOMAIN, OP_TYPE, Case, topk_tokens

Select = Callable[[np.ndarray, np.ndarray, int], list[np.ndarray]]


@pytest.fixture(scope="module")
def select() -> Select:
    """One node that calls the function, in ONNX Runtime."""
    shapes = {"tokens": ("b", "n", "d"), "scores": ("b", "n"), "keep": (1,)}
    inputs = [
        ir.Value(
            name=name,
            type=ir.TensorType(ir.DataType.INT64 if name == "keep" else ir.DataType.FLOAT),
            shape=ir.Shape(shape),
        )
        for name, shape in shapes.items()
    ]
    node = ir.node(OP_TYPE, inputs, ATTRIBUTES, domain=DOMAIN, num_outputs=2)
    for value, name, dtype in zip(
        node.outputs, ("kept_tokens", "kept"), (ir.DataType.FLOAT, ir.DataType.INT64), strict=True
    ):
        value.name, value.type = name, ir.TensorType(dtype)
    graph = ir.Graph(inputs, node.outputs, nodes=[node], opset_imports={"": 24, DOMAIN: 1})
    graph.name = "test"
    model = ir.Model(graph, ir_version=10, functions=[function_body(24)])
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())

    def run(tokens: np.ndarray, scores: np.ndarray, keep: int) -> list[np.ndarray]:
        feeds = {"tokens": tokens, "scores": scores, "keep": np.array([keep])}
        outputs: list[np.ndarray] = session.run(None, feeds)
        return outputs

    return run


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_function_body_keeps_what_the_table_says(select: Select, case: Case) -> None:
    tokens = case.tokens()
    kept_tokens, kept = select(tokens, np.array(case.scores), case.keep)
    np.testing.assert_array_equal(kept, case.expected)
    expected, _ = topk_tokens(tokens, np.array(case.scores), case.keep)
    np.testing.assert_array_equal(kept_tokens, expected)
