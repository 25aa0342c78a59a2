"""Weights of four and eight bits: the numbers, the form in the graphs, and the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

import vtp
from vtp.errors import ManifestInvalid, NotQuantizable, OptionInvalid, ParityFailed, TargetLacksType
from vtp.export import ExportOptions, export_model
from vtp.export.targets import TARGETS
from vtp.export.weights import weight_file as weight_file
from vtp.export.weights.block_rounding import QuantizedMatrix, check_shape, dequantize, quantize
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.manifest import BLOCKS, Manifest, WeightsRecord
from vtp.runtime.chat.pipeline import Pipeline
from vtp.runtime.engines.onnxruntime.cpu import OnnxRuntimeCpu
from vtp.runtime.files.tensorfile import TensorFile
from vtp.runtime.media.images import DEFAULT_MAX_PIXELS

from .test_parity import QUESTION, STEPS, HuggingFace, picture

WAYS = [(4, True), (8, True), (4, False), (8, False)]
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def by_definition(weight: np.ndarray, how: WeightsRecord) -> np.ndarray:
    """What is left of a matrix ``(out, in)`` of float32 after rounding, block by block."""
    left = np.empty_like(weight)
    for row in range(weight.shape[0]):
        for start in range(0, weight.shape[1], how.block):
            block = weight[row, start : start + how.block]
            low, high = (0, 2**how.bits - 1)
            if how.symmetric:
                low, high = -(2 ** (how.bits - 1)), 2 ** (how.bits - 1) - 1
                scale = max(block.max() / np.float32(high), -block.min() / np.float32(-low))
                zero = np.float32(0)
            else:
                least, most = min(block.min(), 0), max(block.max(), 0)
                scale = np.float32(most - least) / np.float32(high)
                zero = np.float32(np.rint(-least / scale)) if scale else np.float32(0)
            if scale < np.finfo(np.float32).tiny:
                left[row, start : start + how.block] = 0
                continue
            numbers = np.clip(np.rint(block / scale) + zero, low, high)
            left[row, start : start + how.block] = (numbers - zero) * scale
    return left


@st.composite
def cases(draw: Any) -> tuple[np.ndarray, WeightsRecord]:
    bits, symmetric = draw(st.sampled_from(WAYS))
    how = WeightsRecord(bits=bits, block=draw(st.sampled_from(BLOCKS[:3])), symmetric=symmetric)
    outputs, blocks = 2 * draw(st.integers(1, 5)), draw(st.integers(1, 4))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weight = random.standard_normal((outputs, blocks * how.block)).astype(np.float32)
    weight *= 10.0 ** draw(st.integers(-6, 4))
    weight += draw(st.sampled_from([0.0, 3.0, -3.0])) * np.abs(weight).max()
    if draw(st.booleans()):
        weight[0, : how.block] = 0
    return weight.astype(np.float32), how


@given(cases())
def test_numbers_are_the_nearest(case: tuple[np.ndarray, WeightsRecord]) -> None:
    weight, how = case
    made = quantize(weight, how, np.dtype(np.float32))
    np.testing.assert_allclose(
        dequantize(made, how), by_definition(weight, how), rtol=1e-5, atol=1e-30
    )
    assert (made.scales > 0).all()


@given(cases(), st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]))
def test_onnx_reads_the_same_matrix(case: tuple[np.ndarray, WeightsRecord], dtype: Any) -> None:
    weight, how = case
    with np.errstate(over="ignore"):
        made = quantize(weight, how, np.dtype(dtype))
    if not np.isfinite(made.scales.astype(np.float32)).all():
        return
    np.testing.assert_array_equal(onnx_reads(made, how), dequantize(made, how))


def onnx_reads(made: QuantizedMatrix, how: WeightsRecord) -> np.ndarray:
    """The matrix ``(out, in)`` by the reference implementation of ONNX, scales widened."""
    kind = f"{'' if how.symmetric else 'U'}INT{how.bits}"
    blocks, outputs = made.scales.shape

    def tensor(name: str, packed: np.ndarray, rows: int) -> Any:
        return onnx.helper.make_tensor(
            name, getattr(onnx.TensorProto, kind), (rows, outputs), packed.tobytes(), raw=True
        )

    initializers = [
        tensor("values", made.values, blocks * how.block),
        onnx.numpy_helper.from_array(made.scales.astype(np.float32), "scales"),
    ]
    if made.zeros is not None:
        initializers.append(tensor("zeros", made.zeros, blocks))
    names = [initializer.name for initializer in initializers]
    node = onnx.helper.make_node("DequantizeLinear", names, ["y"], axis=0, block_size=how.block)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = onnx.helper.make_graph([node], "read", [], [y], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)])
    matrix: np.ndarray = ReferenceEvaluator(model).run(None, {})[0]
    return matrix.T


def test_a_large_matrix_is_rounded_as_its_rows_are() -> None:
    """More than is quantized at a time."""
    how = WeightsRecord(bits=4, block=256, symmetric=True)
    weight = np.random.default_rng(0).standard_normal((66, 1 << 17)).astype(np.float32)
    whole = dequantize(quantize(weight, how, np.dtype(np.float32)), how)
    for rows in (slice(0, 2), slice(30, 36), slice(64, 66)):
        part = dequantize(quantize(weight[rows], how, np.dtype(np.float32)), how)
        np.testing.assert_array_equal(whole[rows], part)


def test_what_does_not_split_is_refused() -> None:
    int4, int8 = (WeightsRecord(bits=b, block=64, symmetric=True) for b in (4, 8))
    check_shape("w", 3, 128, int8)
    with pytest.raises(NotQuantizable, match=r"w .*96 inputs cannot be split .* 64; .*--block"):
        check_shape("w", 4, 96, int4)
    with pytest.raises(NotQuantizable, match=r"3 outputs .*--weights int8"):
        check_shape("w", 3, 128, int4)


def quantized_reference(folder: Path, how: WeightsRecord) -> HuggingFace:
    """transformers with every matrix of the decoder and its head rounded by the definition."""
    reference = HuggingFace(folder)
    model = reference.model
    table = model.get_input_embeddings().weight
    for name, module in model.named_modules():
        chosen = (name.endswith(LINEAR) and "language_model" in name) or name == "lm_head"
        if chosen and isinstance(module, torch.nn.Linear):
            rounded = by_definition(module.weight.detach().numpy(), how)
            module.weight = torch.nn.Parameter(torch.from_numpy(rounded))
    assert model.get_input_embeddings().weight is table
    return reference


def exact(bundle: Path, target: str) -> Pipeline:
    """The bundle with its quantized weights multiplied in float32."""
    engine = OnnxRuntimeCpu(threads=1, exact=True)
    return Pipeline(Bundle(bundle), engine, None, target, DEFAULT_MAX_PIXELS, True)


@pytest.mark.parametrize(
    ("model", "bits", "symmetric"),
    [
        *(("grouped-query", bits, symmetric) for bits, symmetric in WAYS),
        ("tied-head", 4, True),
        ("qwen2", 8, True),
    ],
)
def test_answers_are_those_of_transformers_with_rounded_weights(
    llava: Callable[[str], Path],
    exported: Callable[..., Path],
    model: str,
    bits: int,
    symmetric: bool,
) -> None:
    how = WeightsRecord(bits=bits, block=32, symmetric=symmetric)
    reference = quantized_reference(llava(model), how)
    bundle = exported(model, weights=f"int{bits}", symmetric=symmetric)
    manifest = Bundle(bundle).manifest
    assert manifest.language.weights == how
    assert manifest.targets() == (sorted(TARGETS) if symmetric else ["ort"])
    for target in manifest.targets():
        pipeline = exact(bundle, target)
        whole = pipeline.generate(picture(0), QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(whole.tokens) == reference.unpruned([picture(0)], QUESTION)
        few = pipeline.generate(picture(1), QUESTION, keep=36, max_new_tokens=STEPS)
        assert list(few.tokens) == reference.fastervlm([picture(1)], QUESTION, 36)[0]


@pytest.mark.parametrize(("weights", "dtype"), [("int4", "float16"), ("int8", "float32")])
def test_onnx_runtime_fuses_every_matrix(
    exported: Callable[..., Path], weights: str, dtype: str, tmp_path: Path
) -> None:
    stages = {"keep": None, "layers": (2,), "ratios": (0.5,), "budget": "all"}
    options = {"positions": "original", "weights": weights, "dtype": dtype}
    bundle = Bundle(exported("grouped-query", "pyramiddrop", **stages, **options))
    matrices: Counter[str] = Counter()
    for record in bundle.manifest.graphs:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "4")
        onnxruntime.InferenceSession(
            bundle.file(record.file), options, providers=["CPUExecutionProvider"]
        )
        optimized = onnx.load(tmp_path / "optimized.onnx", load_external_data=False)
        counts = Counter(node.op_type for node in optimized.graph.node)
        assert counts["DequantizeLinear"] == 0
        assert record.name != "vision" or counts["MatMulNBits"] == 0
        matrices[record.target] += counts["MatMulNBits"]
    layers = bundle.manifest.language.layers
    for target in bundle.manifest.targets():
        assert matrices[target] >= layers * len(LINEAR) + 1


def test_the_weight_file_holds_every_matrix_once(exported: Callable[..., Path]) -> None:
    bundle = Bundle(exported("grouped-query", weights="int4"))
    names = TensorFile(bundle.file("weights.safetensors")).names()
    values = [name for name in names if name.endswith(".int4.values")]
    assert len(values) == bundle.manifest.language.layers * len(LINEAR) + 1
    whole = [n for n in names if "language_model" in n and n.endswith(("weight", "transposed"))]
    assert not [n for n in whole if "norm" not in n and "embed_tokens" not in n]


def test_a_wrong_scale_is_found_at_export(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake that integer arithmetic would hide: one percent."""

    def slightly_wrong(made: QuantizedMatrix, how: WeightsRecord) -> np.ndarray:
        return dequantize(made, how) * np.float32(1.01)

    monkeypatch.setattr(weight_file, "dequantize", slightly_wrong)
    options = ExportOptions(weights="int8", targets=("ort",))
    with pytest.raises(ParityFailed, match=r"language\.0"):
        export_model(str(llava("grouped-query")), tmp_path / "out", options)


def test_the_manifest_tells_what_rounding_does(exported: Callable[..., Path]) -> None:
    few, many = (
        Bundle(exported("grouped-query", weights=weights)).manifest.golden
        for weights in ("int4", "int8")
    )
    assert len(few.rounding) == len(few.cases)
    assert all(a.max_abs > 4 * b.max_abs for a, b in zip(few.rounding, many.rounding, strict=True))
    assert not Bundle(exported("grouped-query")).manifest.golden.rounding


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"weights": "int3"}, OptionInvalid, "int4"),
        ({"weights": "int4", "block": 48}, OptionInvalid, "64"),
        ({"symmetric": False}, OptionInvalid, "weights"),
        ({"weights": "int4", "symmetric": False}, TargetLacksType, "--target ort"),
        ({"weights": "int4", "block": 64}, NotQuantizable, "down_proj"),
    ],
)
def test_options_that_cannot_be_had(
    llava: Callable[[str], Path],
    tmp_path: Path,
    options: dict[str, Any],
    error: type[Exception],
    says: str,
) -> None:
    with pytest.raises(error, match=says):
        export_model(str(llava("grouped-query")), tmp_path / "out", ExportOptions(**options))
    assert not (tmp_path / "out").exists()


def test_a_manifest_with_other_bits_is_refused(exported: Callable[..., Path]) -> None:
    text = (exported("grouped-query", weights="int4") / "manifest.json").read_text()
    with pytest.raises(ManifestInvalid, match="bits"):
        Manifest.from_json(text.replace('"bits": 4', '"bits": 3'))


def test_the_engine_of_every_day_answers_too(exported: Callable[..., Path]) -> None:
    """Integer arithmetic: near the exact one, but not it."""
    bundle = exported("grouped-query", weights="int8")
    measured = Bundle(bundle).manifest.golden.measured
    worst = max(d.max_abs for d in measured if d.output.startswith("logits"))
    assert worst > 1e-4
    assert len(vtp.load(bundle).generate(picture(2), QUESTION, max_new_tokens=4).tokens) == 4
