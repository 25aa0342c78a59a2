"""Engine ``tensorrt`` over a stand-in for the library: its own logic, graph by graph.

The stand-in computes with ONNX Runtime; on a device see ``make gpu-check``.
"""

from __future__ import annotations

import gc
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vtp
from vtp.errors import BeyondLimits, ContextTooLong, EngineUnavailable
from vtp.export import ExportOptions, export_model
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.engines.capacity import capacities
from vtp.runtime.verify.verify import replay, verify_bundle

from ..runtime import stand_in_tensorrt as stand_in
from ..runtime.stand_in_build import add_variant, in_place


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in.RecordedMemory]:
    """The stand-in in the library's place, and its memory."""
    with in_place(monkeypatch) as memory:
        yield memory


def built(bundle: Path, out: Path, target: str, keep: Any = None, tokens: int = 400) -> Path:
    """A copy of a bundle with a variant whose engines are read by the stand-in."""
    shutil.copytree(bundle, out)
    add_variant(out, target, keep=keep, tokens=tokens)
    return out


METHODS: list[tuple[str, str, dict[str, Any]]] = [
    ("grouped-query", "fastervlm", {}),
    ("grouped-query", "fastv", {}),
    ("deep", "pyramiddrop", {"keep": None}),
    ("grouped-query", "guide", {"keep": None}),
]


@pytest.mark.parametrize("target", ["onnx", "trt10"])
@pytest.mark.parametrize(("model", "method", "options"), METHODS)
def test_the_golden_sample_comes_out(
    exported: Callable[..., Path],
    tmp_path: Path,
    model: str,
    method: str,
    options: dict[str, Any],
    target: str,
) -> None:
    bundle = built(exported(model, method, **options), tmp_path / "built", target)
    pipeline = vtp.load(bundle, "tensorrt")
    assert pipeline.engine.name == "tensorrt"
    measured = replay(pipeline)
    assert {d.graph for d in measured} >= {"vision"}
    assert {d.target for d in measured} == {target}


@pytest.mark.parametrize("target", ["onnx", "trt10"])
def test_a_model_that_was_checked_in_part(
    llava: Callable[[str], Path], tmp_path: Path, target: str
) -> None:
    options = ExportOptions(check="layers:2", keep=0.25, targets=(target,))
    export_model(str(llava("deep")), tmp_path / "bundle", options)
    bundle = built(tmp_path / "bundle", tmp_path / "built", target)
    name, measured = verify_bundle(Bundle(bundle), "tensorrt")
    assert name == "tensorrt"
    assert {d.graph for d in measured} == {"vision", "check.0"}


@pytest.mark.parametrize("target", ["onnx", "trt10"])
def test_turns_answer_as_on_the_processor(
    exported: Callable[..., Path], tmp_path: Path, scene: Path, target: str
) -> None:
    source = exported("deep", "pyramiddrop", keep=None)
    bundle = built(source, tmp_path / "built", target)
    answers = []
    for engine in ("cpu", "tensorrt"):
        chat = vtp.load(bundle, engine).chat(capacity=400)
        first = chat.ask([scene, scene], "what is it?", max_new_tokens=6)
        answers.append((first.tokens, chat.ask("and now?", max_new_tokens=6).tokens))
    assert answers[0] == answers[1]


def test_decode_is_replayed_from_the_third_step_on(
    exported: Callable[..., Path],
    tmp_path: Path,
    scene: Path,
    library: stand_in.RecordedMemory,
) -> None:
    pipeline = vtp.load(built(exported("grouped-query"), tmp_path / "built", "onnx"), "tensorrt")
    answer = pipeline.generate(scene, "describe the picture.", max_new_tokens=9)
    # Of the 8 steps behind the first token one runs plainly, and is not captured.
    assert len(answer.tokens) == 9
    assert library.replays == 7


def test_where_shapes_change_nothing_is_replayed(
    exported: Callable[..., Path],
    tmp_path: Path,
    scene: Path,
    library: stand_in.RecordedMemory,
) -> None:
    pipeline = vtp.load(built(exported("grouped-query"), tmp_path / "built", "trt10"), "tensorrt")
    pipeline.generate(scene, "describe the picture.", max_new_tokens=9)
    assert library.replays == 0


def test_a_capture_that_fails_is_run_plainly(
    exported: Callable[..., Path],
    tmp_path: Path,
    scene: Path,
    library: stand_in.RecordedMemory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = built(exported("grouped-query"), tmp_path / "built", "onnx")
    right = vtp.load(bundle, "tensorrt").generate(scene, "what?", max_new_tokens=6).tokens

    def refused(self: stand_in.RecordedMemory) -> None:
        self.captured = None

    monkeypatch.setattr(stand_in.RecordedMemory, "end_capture", refused)
    replays = library.replays
    assert vtp.load(bundle, "tensorrt").generate(scene, "what?", max_new_tokens=6).tokens == right
    assert library.replays == replays


def test_caches_have_the_capacity_that_was_built(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = built(exported("grouped-query", "fastv"), tmp_path / "built", "onnx", keep=0.25)
    pipeline = vtp.load(bundle, "tensorrt")
    plan, limits = pipeline.bundle.manifest.plan, pipeline.source.limits
    assert limits is not None
    rows = [stage.capacity for stage in pipeline.decoder.cache(10).stages]
    assert rows == list(capacities(plan, limits)) == [400, 400 - 144 + 36]


def test_more_than_was_built_is_refused_before_anything_runs(
    exported: Callable[..., Path], tmp_path: Path, scene: Path
) -> None:
    bundle = built(exported("grouped-query"), tmp_path / "built", "onnx", keep=0.25, tokens=100)
    pipeline = vtp.load(bundle, "tensorrt")
    with pytest.raises(BeyondLimits, match=r"before layer 0: 72, but the limit is 36.*--max-keep"):
        pipeline.generate(scene, "what?", keep=0.5)
    with pytest.raises(BeyondLimits, match=r"images per turn: 2, but .*--max-images"):
        pipeline.generate([scene, scene], "what?")
    with pytest.raises(ContextTooLong, match="--max-tokens"):
        pipeline.generate(scene, "what?", max_new_tokens=90)
    assert pipeline.generate(scene, "what?", max_new_tokens=5).tokens


def test_verify_leaves_out_what_was_not_built(
    exported: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = built(exported("grouped-query"), tmp_path / "built", "onnx", keep=0.25)
    assert {d.keep for d in replay(vtp.load(bundle, "tensorrt"))} == {(0.25,)}


def test_a_file_that_is_no_engine_is_told(exported: Callable[..., Path], tmp_path: Path) -> None:
    bundle = built(exported("grouped-query"), tmp_path / "built", "onnx")
    opened = Bundle(bundle)
    (variant,) = opened.manifest.variants
    data = b"not an engine"
    (bundle / "engines" / "tensorrt" / "vision.engine").write_bytes(data)
    broken = [
        replace(e, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        if e.graph == "vision"
        else e
        for e in variant.engines
    ]
    opened.rewrite(replace(opened.manifest, variants=(replace(variant, engines=tuple(broken)),)))
    with pytest.raises(EngineUnavailable, match="magicTag does not match"):
        vtp.load(bundle, "tensorrt")


def test_threads_that_share_contexts_take_turns(
    exported: Callable[..., Path], tmp_path: Path, scene: Path
) -> None:
    """An execution context holds one set of addresses, and the stream is one: for all bundles."""
    bundle = built(exported("grouped-query", "fastv"), tmp_path / "built", "onnx")
    with vtp.load(bundle, "tensorrt") as first, vtp.load(bundle, "tensorrt") as second:
        asked = [(first, "what is it?"), (first, "how many?"), (second, "describe the picture.")]
        options: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 24}
        right = [pipe.generate(scene, question, **options).tokens for pipe, question in asked]

        def ask(number: int) -> Any:
            pipe, question = asked[number]
            return [pipe.generate(scene, question, **options).tokens for _ in range(3)]

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(len(asked)) as pool:
                found = list(pool.map(ask, range(len(asked))))
        finally:
            sys.setswitchinterval(before)
    assert found == [[tokens] * 3 for tokens in right]


def test_streams_interleave_over_one_context(
    exported: Callable[..., Path], tmp_path: Path, scene: Path
) -> None:
    bundle = built(exported("grouped-query", "fastv"), tmp_path / "built", "onnx")
    options: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 12}
    with vtp.load(bundle, "tensorrt") as pipeline:
        questions = ("what is it?", "how many?")
        right = [pipeline.generate(scene, question, **options).tokens for question in questions]
        answers = [pipeline.stream(scene, question, **options) for question in questions]
        for _ in zip(*answers, strict=False):
            pass
        assert [answer.finish().tokens for answer in answers] == right


def test_closing_gives_device_memory_back(
    exported: Callable[..., Path], tmp_path: Path, scene: Path, library: stand_in.RecordedMemory
) -> None:
    bundle = built(exported("grouped-query", "fastv"), tmp_path / "built", "onnx")
    pipeline = vtp.load(bundle, "tensorrt")
    chat = pipeline.chat()
    answer = chat.stream(scene, "what is it?", ignore_eos=True, max_new_tokens=9)
    next(answer)
    gc.collect()
    held = library.memory_used()
    pipeline.close()
    gc.collect()
    # What is left is the scratch memory that all bundles of a process share.
    assert library.memory_used() < held / 2
    assert answer.result.tokens
