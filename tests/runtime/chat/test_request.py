"""A request is resolved once, before anything runs, and tells what its answer takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vtp
from vtp import errors
from vtp.runtime import Request
from vtp.runtime.bundle.plan import Plan
from vtp.runtime.bundle.prompt import PromptLayout
from vtp.runtime.chat.chat import Chat
from vtp.runtime.model.marks import Marks

from .conftest import Runs

QUESTION = "what number is shown?"


def test_a_request_tells_what_its_answer_takes(
    shared_pipeline: vtp.Pipeline, scene: Path, runs: Runs
) -> None:
    pipeline = shared_pipeline
    request = pipeline.request(scene, QUESTION, keep=0.1, max_new_tokens=4)
    assert runs.count == 0
    assert (request.keeps, request.counts, request.extent.total) == ((0.1,), (26,), 256)
    result = pipeline.run(request).finish()
    assert runs.count > 0
    assert request.prompt_tokens == result.prompt_tokens
    assert request.stage_tokens == (result.image_tokens,) == (26,)
    assert request.max_new_tokens == 4
    rows = request.capacities[0]
    language = pipeline.bundle.manifest.language
    assert rows == request.prompt_tokens + 4 - 1
    assert rows * language.kv_bytes_per_token() == result.cache_bytes == request.cost.kv_bytes
    assert request.cost.flops == result.stages[0].flops


def test_a_request_is_a_value(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    request = shared_pipeline.request(scene, QUESTION, temperature=1.0, seed=3, max_new_tokens=3)
    with pytest.raises(AttributeError):
        request.prompt = "another"  # type: ignore[misc]
    answers = [shared_pipeline.run(request).finish().tokens for _ in range(2)]
    plain = shared_pipeline.generate(
        scene, QUESTION, temperature=1.0, seed=3, max_new_tokens=3
    ).tokens
    assert answers == [plain, plain]


@pytest.mark.parametrize("options", [{}, {"keep": 0.5}, {"keep": (40,)}, {"keep": 1.0}])
def test_a_keep_is_resolved_once(
    shared_pipeline: vtp.Pipeline,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:
    calls: list[str] = []
    for owner, name in ((Plan, "keeps"), (PromptLayout, "lay_out"), (PromptLayout, "expand")):
        monkeypatch.setattr(owner, name, noting(calls, name, getattr(owner, name)))
    shared_pipeline.generate(scene, QUESTION, max_new_tokens=3, **options)
    assert sorted(calls) == ["expand", "keeps", "lay_out"]


def noting(calls: list[str], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        return function(*arguments, **options)

    return noted


REFUSED: list[tuple[type[Exception], Any, str, dict[str, Any]]] = [
    (errors.EmptyPrompt, None, " ", {}),
    (errors.ImageCountMismatch, None, "<image> what?", {}),
    (errors.ImageUnreadable, "nowhere.png", "what?", {}),
    (errors.KeepOutOfRange, "scene", "what?", {"keep": 0}),
    (errors.KeepOutOfRange, "scene", "what?", {"keep": 257}),
    (errors.KeepOutOfRange, None, "what?", {"keep": 0.5, "average": 0.5}),
    (errors.KeepCountMismatch, None, "what?", {"keep": (0.5, 0.25)}),
    (errors.SamplingInvalid, None, "what?", {"top_p": 0}),
    (errors.SamplingInvalid, None, "what?", {"max_new_tokens": 0}),
    (errors.SamplingInvalid, None, "what?", {"exit_threshold": -1}),
    (errors.GuideMissing, None, "what?", {"exit_threshold": 0.5}),
    (errors.ContextTooLong, "scene", "what?", {"max_new_tokens": 10**9}),
    (errors.VideoNotSupported, vtp.Video([np.zeros((8, 8, 3), np.uint8)]), "what?", {}),
]


@pytest.mark.parametrize(("error", "image", "prompt", "options"), REFUSED)
def test_what_cannot_be_is_refused_before_anything_runs(
    shared_pipeline: vtp.Pipeline,
    scene: Path,
    runs: Runs,
    error: type[Exception],
    image: Any,
    prompt: str,
    options: dict[str, Any],
) -> None:
    shown = scene if image == "scene" else image
    for call in (shared_pipeline.request, shared_pipeline.stream, shared_pipeline.chat().stream):
        with pytest.raises(error):
            call(shown, prompt, **options)
    assert runs.count == 0


def test_a_drop_that_needs_a_guide_is_refused_before_anything_runs(
    sgl_bundle: Path, scene: Path, runs: Runs
) -> None:
    with vtp.load(sgl_bundle, "cpu", threads=1) as pipeline:
        with pytest.raises(errors.GuideMissing):
            pipeline.request(scene, QUESTION)
        assert pipeline.request(scene, QUESTION, keep=1.0).guide is None
    assert runs.count == 0


def test_a_guided_request_holds_what_the_guide_reads(
    sgl_bundle: Path, guide_bundle: Path, scene: Path, runs: Runs
) -> None:
    with vtp.load(sgl_bundle, "cpu", threads=1, guide=guide_bundle) as pipeline:
        chat, marks = Chat(pipeline, None, pipeline.guide), Marks()
        request = chat.request(scene, QUESTION, max_new_tokens=3, mark=marks)
        assert runs.count == 0
        assert request.guide is not None
        assert request.guide.inputs.counts == (256,) or not request.guide.inputs.plan.drops
        result = chat.run(request, marks).finish()
        assert result.guide is not None
        spans = marks.spans()
        phases = list(dict.fromkeys(span.phase for span in spans))
        assert phases[:6] == ["read", "preprocess", "prompt", "guide", "vision", "splice"]
        # The guide's phase is all of its time, preparation included.
        guided = sum(span.ms for span in spans if span.phase == "guide")
        assert result.guide.ms == pytest.approx(guided, abs=3, rel=0.2)
        first = next(span.stop_ms for span in spans if span.phase == "first token")
        assert result.timings.ttft_ms == pytest.approx(first, abs=3, rel=0.2)


def test_a_request_of_a_conversation_is_for_its_moment(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    chat = shared_pipeline.chat()
    early, same = chat.request(scene, QUESTION), chat.request(scene, QUESTION)
    first = chat.run(early).finish()
    with pytest.raises(errors.RequestOutdated, match="at another point"):
        chat.run(same)
    later = chat.request("and now?", max_new_tokens=2)
    assert later.past is not None
    assert later.prompt_tokens < first.prompt_tokens
    for other in (shared_pipeline.chat(), shared_pipeline):
        with pytest.raises(errors.RequestOutdated):
            other.run(later)
    assert chat.run(later).finish().tokens


def test_a_request_of_another_pipeline_is_refused(
    shared_pipeline: vtp.Pipeline, tiny_bundle: Path, scene: Path
) -> None:
    with vtp.load(tiny_bundle, "cpu", threads=1, verify=False) as other:
        request = other.request(scene, QUESTION)
        with pytest.raises(errors.RequestOutdated, match="it was made for"):
            shared_pipeline.run(request)


def test_waiting_before_a_request_is_run_is_no_part_of_its_times(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    from time import sleep

    request: Request = shared_pipeline.request(scene, QUESTION, max_new_tokens=1)
    sleep(0.5)
    times = shared_pipeline.run(request).finish().timings
    assert times.ttft_ms < 500 + request.ms
    assert times.preprocess_ms == request.preprocess_ms
    assert times.ttft_ms >= times.preprocess_ms + times.vision_ms + times.prefill_ms
