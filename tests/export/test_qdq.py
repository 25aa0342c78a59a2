"""Matrix products of 8 bits: what the graphs compute, against the definition."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

from vtp.export.quantization.activation_ranges import RangeEngine
from vtp.export.quantization.qdq import quantize_graph, units
from vtp.export.quantization.sensitivity import sensitivity
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.chat.pipeline import Pipeline
from vtp.runtime.files.tensorfile import TensorFile

QUESTION = "what number is shown?"


def two_products(path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """``y = relu(x @ a) @ b``, in two layers, and its weights."""
    random = np.random.default_rng(3)
    weights = {
        "layers.0.a.weight": random.normal(size=(8, 6)).astype(np.float32),
        "layers.1.b.weight": random.normal(size=(6, 5)).astype(np.float32) * 3,
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "layers.0.a.weight"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("MatMul", ["r", "layers.1.b.weight"], ["y"], name="second"),
        ],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
        value_info=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in ("h", "r")
        ],
    )
    opset = [helper.make_opsetid("", 21)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), path)
    return path, weights


def ranges_of(**ends: tuple[float, float]) -> Any:
    data = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ends.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """Without fusion: float products of what numbers stand for."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


def rounded_weight(w: np.ndarray, form: str) -> np.ndarray:
    """One scale for each output, so that the largest number is the type's largest."""
    largest = np.abs(w).max(axis=0)
    if form == "int8":
        scale = largest / 127
        return np.rint(w / scale).clip(-127, 127) * scale
    scale = largest / 448
    return (w / scale).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


def rounded_activation(x: np.ndarray, low: float, high: float, form: str) -> np.ndarray:
    if form == "uint8":
        low, high = min(low, 0), max(high, 0)
        scale = (high - low) / 255
        zero = np.rint(-low / scale)
        return ((np.rint(x / scale) + zero).clip(0, 255) - zero) * scale
    largest = max(abs(low), abs(high))
    if form == "int8":
        scale = largest / 127
        return np.rint(x / scale).clip(-128, 127) * scale
    scale = largest / 448
    return (x / scale).clip(-448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale


@pytest.mark.parametrize(
    ("form", "whole", "activation"),
    [("int8", True, "uint8"), ("int8", False, "int8"), ("fp8", False, "fp8"), ("fp8", True, "fp8")],
)
def test_products_are_those_of_the_definition(
    form: str, whole: bool, activation: str, tmp_path: Path
) -> None:
    path, weights = two_products(tmp_path / "two.onnx")
    x = np.random.default_rng(4).normal(size=(50, 8)).astype(np.float32)
    # Some of what comes lies outside of what was seen.
    model = quantize_graph(path, ranges_of(x=(-2.0, 1.5), h=(-9, 9), r=(0.0, 4.0)), form, whole)
    a, b = (rounded_weight(w, form) for w in weights.values())
    h = np.maximum(rounded_activation(x, -2.0, 1.5, activation) @ a, 0)
    want = rounded_activation(h, 0.0, 4.0, activation) @ b
    got = run(model, x)
    # A number halfway between two may fall to either.
    assert np.median(np.abs(got - want)) < 1e-5 * np.abs(want).max()
    assert np.mean(np.abs(got - want) > 1e-4 * np.abs(want).max()) < 0.02
    exact = np.maximum(x @ weights["layers.0.a.weight"], 0) @ weights["layers.1.b.weight"]
    assert np.abs(got - exact).max() > 1e-2


def test_parts_that_are_left_stay_exact(tmp_path: Path) -> None:
    path, weights = two_products(tmp_path / "two.onnx")
    assert units(path) == {"layer 0": ["first"], "layer 1": ["second"]}
    x = np.random.default_rng(4).uniform(-1, 1, (50, 8)).astype(np.float32)
    seen = ranges_of(x=(-1.0, 1.0), h=(-9, 9), r=(0.0, 9.0))
    model = quantize_graph(path, seen, "int8", False, ["first", "second"])
    a, b = weights.values()
    np.testing.assert_allclose(run(model, x), np.maximum(x @ a, 0) @ b, rtol=1e-5)
    only = quantize_graph(path, seen, "int8", False, ["second"])
    want = np.maximum(rounded_activation(x, -1, 1, "int8") @ rounded_weight(a, "int8"), 0) @ b
    np.testing.assert_allclose(run(only, x), want, rtol=1e-4, atol=1e-5)


def test_the_part_that_suffers_most_is_found(tmp_path: Path) -> None:
    path, _ = two_products(tmp_path / "two.onnx")
    x = np.random.default_rng(4).uniform(-1, 1, (50, 8)).astype(np.float32)
    seen = ranges_of(x=(-1.0, 1.0), h=(-9, 9), r=(0.0, 0.01))  # cuts off nearly all
    told: list[str] = []
    found = sensitivity(
        path, [{"x": x}], lambda left: quantize_graph(path, seen, "int8", False, left), told.append
    )
    assert told == ["layer 0", "layer 1"]
    assert found["layer 0"] < 0.02
    assert found["layer 1"] > 0.5


def test_ranges_are_of_what_the_pruned_model_sees(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle(tiny_bundle)
    manifest = bundle.manifest
    engine = RangeEngine(tmp_path, "minmax", 1)
    pipeline = Pipeline(bundle, engine, 1, "ort", 10**8, False)
    image = bundle.file(manifest.golden.image)
    pipeline.generate(image, QUESTION, keep=0.1, max_new_tokens=1)
    file = manifest.graph("language.0", "ort").file
    (feed,) = engine.feeds[file]
    states = feed["inputs_embeds"][0].astype(np.float64)
    assert len(states) < 60, "26 image tokens and the text"
    held = TensorFile(bundle.file(manifest.weights.file))
    norm = held.tensor(
        next(n for n in held.names() if n.endswith("layers.0.input_layernorm.weight"))
    )
    normed = states / np.sqrt((states**2).mean(axis=1, keepdims=True) + 1e-5) * norm
    graph = onnx.load(str(bundle.file(file)), load_external_data=False).graph
    first = next(n for n in graph.node if "layers.0.self_attn.q_proj" in "".join(n.input))
    seen = engine.ranges()[file][first.input[0]]
    assert float(np.min(seen.lowest)) == pytest.approx(normed.min(), rel=1e-3)
    assert float(np.max(seen.highest)) == pytest.approx(normed.max(), rel=1e-3)


def test_onnx_runtime_multiplies_every_one_in_whole_numbers(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = Bundle(tiny_bundle)
    engine = RangeEngine(tmp_path, "minmax", 1)
    pipeline = Pipeline(bundle, engine, 1, "ort", 10**8, False)
    pipeline.generate(bundle.file(bundle.manifest.golden.image), QUESTION, max_new_tokens=3)
    for file, ranges in engine.ranges().items():
        path = bundle.file(file)
        count = sum(map(len, units(path).values()))
        onnx.save(quantize_graph(path, ranges, "int8", True), tmp_path / "q.onnx")
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.graph_optimization_level = level
        onnxruntime.InferenceSession(
            str(tmp_path / "q.onnx"), options, providers=["CPUExecutionProvider"]
        )
        made = onnx.load(str(tmp_path / "optimized.onnx"), load_external_data=False).graph.node
        operators = Counter(node.op_type for node in made)
        assert operators["MatMulIntegerToFloat"] == count >= 28
        assert operators["DequantizeLinear"] == 0
