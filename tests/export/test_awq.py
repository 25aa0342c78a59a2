"""Weights of 4 bits, enlarged where inputs are large: against the definition."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from vtp.export.quantization.activation_ranges import RangeEngine
from vtp.export.quantization.awq import awq_graph, best_factor, find_factors
from vtp.export.quantization.qdq import units
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.chat.pipeline import Pipeline

BLOCK = 32


def rounded(weight: np.ndarray) -> np.ndarray:
    """A matrix ``(in, out)`` after rounding to ``-8 .. 7``, by blocks of inputs."""
    left = np.empty_like(weight)
    for column in range(weight.shape[1]):
        for first in range(0, len(weight), BLOCK):
            block = weight[first : first + BLOCK, column]
            scale = max(block.max() / 7, -block.min() / 8)
            left[first : first + BLOCK, column] = np.clip(np.rint(block / scale), -8, 7) * scale
    return left


def skewed(rows: int = 200, size: int = 64) -> tuple[np.ndarray, list[np.ndarray]]:
    """Inputs of which a few channels are large, and two matrices."""
    random = np.random.default_rng(5)
    inputs = random.normal(size=(rows, size)).astype(np.float32)
    inputs[:, ::16] *= 40
    return inputs, [random.normal(size=(size, n)).astype(np.float32) for n in (6, 10)]


def loss(x: np.ndarray, weights: list[np.ndarray], factor: np.ndarray) -> float:
    return sum(
        float(np.square(x @ w - (x / factor) @ rounded(w * factor[:, None])).sum()) for w in weights
    )


def test_the_best_power_of_the_grid_is_taken() -> None:
    x, weights = skewed()
    size = np.abs(x).mean(axis=0)
    losses = {}
    for step in range(11):
        factor = size ** (step / 10)
        factor /= np.sqrt(factor.max() * factor.min())
        losses[step] = loss(x, weights, factor)
    best = min(losses, key=lambda step: losses[step])
    assert best > 0
    found = best_factor(x, weights, np.dtype(np.float32))
    assert loss(x, weights, found) == pytest.approx(losses[best], rel=1e-3)
    assert losses[best] < 0.5 * losses[0], "rounding to nearest alone"


def test_the_graph_computes_what_was_chosen(tmp_path: Path) -> None:
    x, weights = skewed()
    names = ["layers.0.a.weight", "layers.0.b.weight"]
    nodes = [
        helper.make_node("MatMul", ["x", name], [f"y{at}"], name=f"product{at}")
        for at, name in enumerate(names)
    ]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [
            helper.make_tensor_value_info(f"y{at}", TensorProto.FLOAT, ["n", w.shape[1]])
            for at, w in enumerate(weights)
        ],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, names, strict=True)],
    )
    opset = [helper.make_opsetid("", 20)]
    path = tmp_path / "shared.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    products = {"product0", "product1"}
    factors = find_factors(path, [{"x": x}], products)
    assert factors[names[0]] is factors[names[1]], "one input has one factor"
    made = awq_graph(path, products, factors)
    onnx.checker.check_model(made, full_check=True)
    assert Counter(node.op_type for node in made.graph.node) == {
        "Mul": 1,
        "DequantizeLinear": 2,
        "MatMul": 2,
    }
    options = onnxruntime.SessionOptions()  # its own product of four bits rounds inputs too
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    factor = factors[names[0]]
    for got, w in zip(session.run(None, {"x": x}), weights, strict=True):
        want = (x / factor) @ rounded(w * factor[:, None])
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-2)
    left = awq_graph(path, {"product1"}, factors)
    assert names[0] in {tensor.name for tensor in left.graph.initializer}


def test_onnx_runtime_multiplies_four_bits(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle(tiny_bundle)
    engine = RangeEngine(tmp_path, "minmax", 1)
    pipeline = Pipeline(bundle, engine, 1, "ort", 10**8, False)
    pipeline.generate(bundle.file("golden.png"), "what number is shown?", max_new_tokens=3)
    file = bundle.manifest.graph("language.0", "ort").file
    nodes = {name for names in units(bundle.file(file)).values() for name in names}
    factors = find_factors(bundle.file(file), engine.feeds[file], nodes)
    onnx.save(awq_graph(bundle.file(file), nodes, factors), tmp_path / "q.onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "4")
    onnxruntime.InferenceSession(
        str(tmp_path / "q.onnx"), options, providers=["CPUExecutionProvider"]
    )
    made = onnx.load(str(tmp_path / "optimized.onnx"), load_external_data=False).graph.node
    operators = Counter(node.op_type for node in made)
    assert operators["MatMulNBits"] == len(nodes) == 28
