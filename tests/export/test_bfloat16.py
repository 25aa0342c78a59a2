"""bfloat16 bundles: for TensorRT; checked on a processor as float32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

import vtp
from vtp.errors import EngineUnavailable, ParityFailed, TargetLacksType
from vtp.export import ExportOptions, export_model
from vtp.export import exporter as exporting
from vtp.export.check.widened import widened_copy
from vtp.export.weights.weight_file import WeightFile
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.engines import why_not
from vtp.runtime.engines.cuda_memory import DeviceBuffer
from vtp.runtime.files.tensorfile import TensorFile, float32_of

from .test_parity import QUESTION, STEPS, HuggingFace, picture


@pytest.fixture
def bundle(exported: Callable[..., Path]) -> Path:
    return exported("grouped-query", dtype="bfloat16")


def test_graphs_and_weights_are_bfloat16(bundle: Path, llava: Callable[[str], Path]) -> None:
    opened = Bundle(bundle)
    assert opened.manifest.targets() == ["onnx", "trt10"]
    kept = {"past", "present"}
    for record in opened.manifest.graphs:
        for spec in (*record.inputs, *record.outputs):
            narrow = spec.name.partition("_")[0].partition(".")[0] in kept
            assert (spec.dtype == "bfloat16") == narrow, spec
        graph = onnx.load(bundle / record.file, load_external_data=False).graph
        types = [i.data_type for i in graph.initializer if i.external_data]
        assert set(types) <= {onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT64}
        assert onnx.TensorProto.BFLOAT16 in types
    table = TensorFile(bundle / "weights.safetensors").tensor(opened.manifest.language.embedding)
    (name,) = (n for n in load_file(llava("grouped-query") / "model.safetensors") if "embed_t" in n)
    exact = load_file(llava("grouped-query") / "model.safetensors")[name]
    rounded = exact.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(float32_of(np.asarray(table)), rounded)


def test_its_graphs_answer_as_transformers_with_rounded_weights(
    bundle: Path, llava: Callable[[str], Path]
) -> None:
    reference = HuggingFace(llava("grouped-query"))
    for parameter in reference.model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    expected = reference.unpruned([picture(0)], QUESTION)
    with widened_copy(bundle) as copy:
        for target in ("onnx", "trt10"):
            pipeline = vtp.load(copy, "cpu", target=target, verify=False)
            result = pipeline.generate(picture(0), QUESTION, keep=1.0, max_new_tokens=STEPS)
            assert list(result.tokens) == expected
    assert not copy.exists()


def test_no_processor_runs_it(bundle: Path) -> None:
    with pytest.raises(
        EngineUnavailable, match=r"does not support bfloat16.*--dtype float32 or float16"
    ):
        vtp.load(bundle, "cpu")
    manifest = Bundle(bundle).manifest
    assert "bfloat16" in str(why_not("cpu", manifest))
    whole = replace(manifest, language=replace(manifest.language, dtype="float32"))
    assert why_not("cpu", whole) is None


def test_target_ort_has_none(llava: Callable[[str], Path], tmp_path: Path) -> None:
    options = ExportOptions(dtype="bfloat16", targets=("ort",))
    with pytest.raises(TargetLacksType, match="ort does not support bfloat16"):
        export_model(str(llava("grouped-query")), tmp_path / "out", options)


def test_the_check_sees_wrong_weights(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(WeightFile):
        def table(self, name: str, array: np.ndarray, exact: bool = False) -> str:
            return super().table(name, array[::-1].copy() if "sin" in name else array, exact)

    monkeypatch.setattr(exporting, "WeightFile", Wrong)
    options = ExportOptions(dtype="bfloat16", targets=("onnx",))
    with pytest.raises(ParityFailed, match=r"language\.0"):
        export_model(str(llava("grouped-query")), tmp_path / "out", options)


def test_the_manifest_tells_what_pytorch_loses_in_bfloat16(bundle: Path) -> None:
    (rounding,) = Bundle(bundle).manifest.golden.rounding
    assert rounding.max_abs > 1e-3
    assert rounding.cosine > 0.99


def test_a_device_buffer_of_bfloat16_has_two_bytes() -> None:
    class Memory:
        def allocate(self, nbytes: int) -> int:
            return nbytes

        def free(self, address: int, nbytes: int) -> None: ...

    buffer = DeviceBuffer(Memory(), (2, 3), "bfloat16")  # type: ignore[arg-type]
    assert buffer.address == buffer.nbytes == 12
