"""``vtp calibrate quantize``: the sample model in 8 bits, within its bound."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from vtp.calibration.answers import AnswerOptions
from vtp.calibration.data import read_questions
from vtp.calibration.journal import Journal
from vtp.calibration.progress import Progress
from vtp.calibration.quantize import QuantizedBundle, QuantizeOptions, Quantizer
from vtp.errors import BoundNotMet, DataInvalid, NotCalibratable
from vtp.export.quantization.activation_ranges import RangeEngine
from vtp.runtime import load
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.files.tensorfile import TensorFile
from vtp.samples.scenes import evaluation_set, same_answer


@pytest.fixture(scope="session")
def int8(
    made_once: Any, tiny_bundle: Path, questions: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """``tiny`` in int8, calibrated at its default keep with 20 questions."""

    def make(folder: Path) -> None:
        folder.mkdir()
        data = tmp_path_factory.mktemp("twenty") / "questions.jsonl"
        (data.parent / "images").symlink_to(questions.parent / "images")
        data.write_text("\n".join(questions.read_text().splitlines()[:20]))
        quantize(tiny_bundle, data, folder)

    return Path(made_once("tiny-int8", make))


@pytest.fixture(scope="session")
def tiny_float16(made_once: Any) -> Path:
    """``tiny`` in float16, the form that a device would get."""
    from vtp.export import ExportOptions, export_model

    def export(out: Path) -> None:
        export_model("tiny", out, ExportOptions(keep=0.1, dtype="float16"))

    return Path(made_once("tiny-float16", export))


def quantize(bundle: Path, questions: Path, folder: Path, **options: Any) -> QuantizedBundle:
    opened = Bundle(bundle)
    wished = QuantizeOptions(keep=opened.manifest.plan.keeps(None), threads=1, **options)
    with Journal(folder.parent / f"{folder.name}-journal.jsonl") as journal:
        data = read_questions(questions)
        return Quantizer(opened, data, journal, wished, AnswerOptions(), Progress()).run(folder)


def right(bundle: Path, count: int) -> int:
    """Right answers to questions that calibration did not see."""
    pipe = load(bundle, "cpu", threads=1)
    samples = list(evaluation_set(count))
    return sum(same_answer(pipe.generate(s.image, s.question).text, s.answer) for s in samples)


def test_held_out_accuracy_is_within_a_point(int8: Path, tiny_bundle: Path) -> None:
    count = 200
    before = right(tiny_bundle, count)
    assert before > 0.9 * count
    assert right(int8, count) >= before - 0.01 * count


def test_the_bundle_is_whole_and_a_third_as_large(int8: Path, tiny_bundle: Path) -> None:
    before, after = Bundle(tiny_bundle), Bundle(int8)
    after.verify()
    assert after.manifest.weights.bytes < 0.4 * before.manifest.weights.bytes
    assert after.manifest.plan == before.manifest.plan
    assert after.manifest.targets() == before.manifest.targets()
    products = after.manifest.products
    assert products is not None
    assert (products.form, products.requests, products.left) == ("int8", 20, ())
    for measured in after.manifest.golden.measured:
        if measured.output.startswith("logits"):
            assert measured.cosine > 0.95


def test_verify_and_inspect_take_it(int8: Path, vtp: Any) -> None:
    assert "cpu" in vtp("verify", int8, "--engine", "cpu").out
    shown = vtp("inspect", int8).out
    assert "in int8" in shown
    assert "activations" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "dtype"),
    [("int8", "float32"), ("int8", "float16"), ("fp8", "float32"), ("int4-awq", "float32")],
)
def test_tensorrt_rtx_builds_it(
    form: str,
    dtype: str,
    int8: Path,
    tiny_bundle: Path,
    tiny_float16: Path,
    data_of: Callable[..., Path],
    tmp_path: Path,
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")
    from vtp.runtime.engines.tensorrt.variant import BuildOptions, build_variant

    bundle = tmp_path / "bundle"
    if (form, dtype) == ("int8", "float32"):
        shutil.copytree(int8, bundle)
    else:
        bundle.mkdir()
        plain = tiny_bundle if dtype == "float32" else tiny_float16
        done = quantize(plain, data_of(12), bundle, form=form)
        assert done.chosen.measured.drop <= 0.01
    options = BuildOptions(engine="tensorrt-rtx", compute_capabilities=("8.9",))
    variant = build_variant(bundle, options)
    assert [engine.graph for engine in variant.engines] == ["vision", "language.0"]


def test_fp8_is_refused_by_the_engine_cpu(
    random_bundle: Path, data_of: Callable[..., Path], tmp_path: Path, vtp: Any
) -> None:
    (tmp_path / "fp8").mkdir()
    quantize(random_bundle, data_of(6), tmp_path / "fp8", form="fp8")
    image = Bundle(random_bundle).file("golden.png")
    run = vtp("run", tmp_path / "fp8", "--image", image, "--prompt", "hi", "--engine", "cpu")
    assert run.status != 0
    assert "fp8" in run.err


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_part_that_suffers_stays_as_it_is(
    dtype: str,
    tiny_bundle: Path,
    tiny_float16: Path,
    data_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ranges that cut off what one layer of the decoder needs."""
    bundle = tiny_bundle if dtype == "float32" else tiny_float16
    plain = RangeEngine.ranges

    def spoilt(engine: RangeEngine) -> dict[str, Any]:
        found = plain(engine)
        for name, ranges in found.items():
            if name.startswith("language"):
                graph = onnx.load(bundle / name, load_external_data=False).graph
                for node in graph.node:
                    if node.op_type == "MatMul" and "layers.2." in node.input[1]:
                        seen = ranges[node.input[0]]
                        seen.lowest, seen.highest = seen.lowest / 1e4, seen.highest / 1e4
        return found

    monkeypatch.setattr(RangeEngine, "ranges", spoilt)
    (tmp_path / "out").mkdir()
    done = quantize(bundle, data_of(20), tmp_path / "out")
    assert done.trials[0].measured.drop > 0.01
    assert next(iter(done.sensitivity)) == "language.0 layer 2"
    assert done.chosen.left == ("language.0 layer 2",)
    assert done.chosen.measured.drop <= 0.01
    manifest = Bundle(tmp_path / "out").manifest
    assert manifest.products is not None
    assert manifest.products.left == ("language.0 layer 2",)
    graph = onnx.load(tmp_path / "out" / "language.0.ort.onnx", load_external_data=False).graph
    kind = onnx.TensorProto.DataType.Value({"float32": "FLOAT", "float16": "FLOAT16"}[dtype])
    weights = {value.name: value.data_type for value in graph.initializer}
    products = [node.input[1] for node in graph.node if node.op_type == "MatMul"]
    assert {weights.get(name) for name in products if "layers.2." in name} == {kind}
    assert not any(weights.get(name) == kind for name in products if "layers.1." in name)


def test_a_bound_out_of_reach_tells_the_best(
    tiny_bundle: Path,
    data_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import vtp.calibration.quantize as module

    monkeypatch.setattr(module, "units", lambda _: {})  # nothing can be left
    (tmp_path / "out").mkdir()
    with pytest.raises(BoundNotMet, match=r"best found loses .* points"):
        quantize(tiny_bundle, data_of(4), tmp_path / "out", max_drop=-0.5)


def test_the_command(
    random_bundle: Path, data_of: Callable[..., Path], tmp_path: Path, vtp: Any, int8: Path
) -> None:
    data, out = data_of(6), tmp_path / "made"
    done = vtp(
        "calibrate", "quantize", random_bundle, "--data", data, "--out", out, "--format", "json"
    )
    told = json.loads(done.out)
    assert [row["bundle"] for row in told["accuracy"]] == ["original", "int8"]
    assert {row["quantized"] for row in told["sensitivity"]} == {"yes"}
    assert "MB of weights" in done.err
    again = vtp("calibrate", "quantize", random_bundle, "--data", data, "--out", out)
    assert again.status == 1
    assert "--force" in again.err
    twice = vtp("calibrate", "quantize", int8, "--data", data, "--out", tmp_path / "twice")
    assert "already quantized" in twice.err
    assert not (tmp_path / "twice").exists()


def test_a_bundle_that_needs_another_is_refused(
    tiny_bundle: Path, data_of: Callable[..., Path], tmp_path: Path
) -> None:
    from dataclasses import replace

    bundle = Bundle(tiny_bundle)
    plan = bundle.manifest.plan
    drops = tuple(replace(drop, score="guide", layer=1, score_layer=None) for drop in plan.drops)
    bundle.manifest = replace(bundle.manifest, plan=replace(plan, drops=drops))
    with Journal(tmp_path / "j.jsonl") as journal, pytest.raises(NotCalibratable, match="guide"):
        Quantizer(
            bundle,
            read_questions(data_of(2)),
            journal,
            QuantizeOptions(),
            AnswerOptions(),
            Progress(),
        )


@pytest.mark.parametrize("form", ["int8", "int4-awq"])
def test_a_bundle_that_was_checked_in_part(
    form: str, made_once: Any, data_of: Callable[..., Path], tmp_path: Path, vtp: Any
) -> None:
    """Its graph of the first layers is cut anew, out of the quantized one."""
    from vtp.export import ExportOptions, export_model
    from vtp.export.source.presets import PRESETS

    def export(out: Path) -> None:
        options = ExportOptions(check="layers:1", targets=("ort",))
        export_model(PRESETS["tiny"].source, out, options)

    bundle = Path(made_once("tiny-checked-in-part", export))
    out = tmp_path / "out"
    out.mkdir()
    quantize(bundle, data_of(6), out, form=form, max_drop=1.0)
    record = Bundle(out).manifest.graph("check.0", "ort")
    caches = {spec.name for spec in record.inputs if spec.name.startswith("past")}
    assert caches == {"past_key_values.0.key", "past_key_values.0.value"}
    operators = [
        n.op_type for n in onnx.load(out / record.file, load_external_data=False).graph.node
    ]
    assert operators.count("DequantizeLinear") == {"int8": 14, "int4-awq": 7}[form]
    assert vtp("verify", out, "--engine", "cpu").status == 0


def test_a_picture_that_cannot_be_read_is_named_by_its_line(
    tiny_bundle: Path, data_of: Callable[..., Path], tmp_path: Path
) -> None:
    data = data_of(2)
    (tmp_path / "broken.png").write_text("no")
    line = json.dumps({"image": str(tmp_path / "broken.png"), "prompt": "x"})
    data.write_text(data.read_text() + line + "\n")
    (tmp_path / "out").mkdir()
    with pytest.raises(DataInvalid, match="line 3"):
        quantize(tiny_bundle, data, tmp_path / "out")


def test_awq_of_a_model_in_stages(
    made_once: Any, data_of: Callable[..., Path], tmp_path: Path
) -> None:
    """Layers are counted anew in every stage; the weights of all targets exist once."""
    from vtp.export import ExportOptions, export_model
    from vtp.export.source.presets import PRESETS

    def export(out: Path) -> None:
        export_model(PRESETS["tiny"].source, out, ExportOptions(stages=("2:0.5:attention",)))

    bundle = Path(made_once("tiny-staged", export))
    (tmp_path / "out").mkdir()
    done = quantize(bundle, data_of(16), tmp_path / "out", form="int4-awq", max_drop=0.2)
    assert done.chosen.left == ()
    after = Bundle(tmp_path / "out")
    after.verify()
    names = TensorFile(after.file(after.manifest.weights.file)).names()
    layers, products = after.manifest.language.layers, 7
    assert len([name for name in names if name.endswith(".int4-awq.values")]) == layers * products
    for target in after.manifest.targets():
        pipe = load(tmp_path / "out", "cpu", target=target, threads=1)
        sample = next(iter(evaluation_set(1)))
        assert same_answer(pipe.generate(sample.image, sample.question).text, sample.answer)
