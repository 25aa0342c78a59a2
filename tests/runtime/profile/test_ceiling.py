"""The ceiling by its definition, from requests whose phases the test sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from vtp.runtime.bundle.plan import Drop, MethodRecord, Plan
from vtp.runtime.model.marks import Span
from vtp.runtime.profile.ceiling import fixed_phases, judge
from vtp.runtime.profile.measure import Facts, Series, TimedRequest
from vtp.runtime.profile.workload import TEXT_ONLY, Point

BARE = {"read": 0.1, "prompt": 0.5, "splice": 0.4, "prefill.0": 3.0, "first token": 0.5}
WHOLE = {
    "read": 1.0,
    "preprocess": 3.0,
    "prompt": 1.0,
    "vision": 44.0,
    "splice": 1.0,
    "prefill.0": 50.0,
    "first token": 0.5,
}


def drop(layer: int) -> Drop:
    return Drop(layer=layer, keep=0.1, score="cls", score_layer=None)


def plan(*layers: int) -> Plan:
    return Plan(
        methods=(MethodRecord(name="m", parameters={}),),
        tokens=16,
        grid=(4, 4),
        layers=4,
        drops=tuple(drop(layer) for layer in layers),
        positions="compact",
    )


def request(phases: Mapping[str, float], decode: list[float]) -> TimedRequest:
    spans, at = [], 0.0
    for phase, ms in (*phases.items(), *(("decode", ms) for ms in decode), ("finish", 0.25)):
        spans.append(Span(phase, at, at + ms))
        at += ms
    return TimedRequest(spans=tuple(spans), device_spans=None)


def series(
    label: str,
    phases: Mapping[str, float],
    decode: list[float],
    speeds: np.ndarray,
    image_tokens: int = 16,
) -> Series:
    """Rounds on a machine whose slowness the rounds share."""
    facts = Facts(
        image_tokens_before=16,
        image_tokens=image_tokens,
        prompt_tokens=image_tokens + 20,
        average_tokens=image_tokens,
        kv_bytes=1,
        stages=(),
        peak_host_bytes=None,
        device_bytes=None,
    )
    found = Series(point=Point(label=label, keeps=(), order=0.0), facts=facts)
    found.requests = [
        request({k: ms * s for k, ms in phases.items()}, [ms * s for ms in decode]) for s in speeds
    ]
    return found


STEADY = np.ones(5)


def run(
    speeds: np.ndarray = STEADY, decode: float = 1.0, **keeps: Mapping[str, float]
) -> dict[str, Series]:
    named = {"1.0": WHOLE, **{k.replace("keep_", "0."): v for k, v in keeps.items()}}
    found = {
        label: series(label, phases, [2 * decode] * 3, speeds) for label, phases in named.items()
    }
    found[TEXT_ONLY] = series(TEXT_ONLY, BARE, [decode] * 3, speeds, image_tokens=0)
    return found


def test_the_floor_is_the_fixed_phases_and_the_question_alone() -> None:
    kept = {**WHOLE, "preprocess": 4.0, "vision": 40.0, "prefill.0": 8.0}
    verdict = judge(plan(0), run(keep_1=kept))
    # read, the mean of preprocess, the least vision; the rest without image.
    floor = 1.0 + 3.5 + 40.0 + 0.5 + 0.4 + 3.0 + 0.5
    assert verdict.ttft.floor_ms.value == pytest.approx(floor)
    assert verdict.ttft.possible.value == pytest.approx(sum(WHOLE.values()) / floor)
    assert verdict.ttft.reached["0.1"].value == pytest.approx(
        sum(WHOLE.values()) / sum(kept.values())
    )
    assert verdict.vision_share == pytest.approx(44.0 / sum(WHOLE.values()))
    answer = floor + 3 * 1.0 + 0.25
    assert verdict.latency.floor_ms.value == pytest.approx(answer)
    assert verdict.latency.possible.value == pytest.approx(
        (sum(WHOLE.values()) + 3 * 2.0 + 0.25) / answer
    )


def test_the_sentence_tells_share_ceiling_and_what_was_reached() -> None:
    verdict = judge(plan(0), run(keep_1={**WHOLE, "prefill.0": 8.0}))
    assert verdict.sentences[0] == (
        "vision takes 44 % of TTFT: the speedup of TTFT by pruning is at most 1.92x "
        "(1.92 to 1.92) here, and 1.72x (1.72 to 1.72) at keep 0.1"
    )
    assert verdict.warnings == ()


def test_layers_in_front_of_the_first_drop_are_not_free() -> None:
    assert "prefill.0" not in fixed_phases(plan(0))
    assert "prefill.0" not in fixed_phases(plan(0, 2))
    assert "prefill.0" in fixed_phases(plan(2))
    staged = {**WHOLE, "prefill.0": 20.0, "prefill.1": 30.0}
    found = run(keep_1={**staged, "prefill.1": 5.0})
    found["1.0"] = series("1.0", staged, [], STEADY)
    found["0.1"] = series("0.1", {**staged, "prefill.1": 5.0}, [], STEADY)
    found[TEXT_ONLY] = series(TEXT_ONLY, {**BARE, "prefill.1": 1.0}, [], STEADY)
    floor = 1.0 + 3.0 + 44.0 + 20.0 + 0.5 + 0.4 + 1.0 + 0.5
    assert judge(plan(2), found).ttft.floor_ms.value == pytest.approx(floor)


def test_no_keep_is_above_the_ceiling_by_more_than_the_interval() -> None:
    speeds = np.random.default_rng(3).normal(1.0, 0.2, 12).clip(0.5)
    kept = {f"keep_{n}": {**WHOLE, "prefill.0": 3.0 + n, "vision": 44.0 - n} for n in (1, 5)}
    verdict = judge(plan(0), run(speeds, **kept))
    for ceiling in (verdict.ttft, verdict.latency):
        assert ceiling.possible.high is not None
        assert all(found.value <= ceiling.possible.high for found in ceiling.reached.values())


def test_a_long_question_or_tower_is_warned_of() -> None:
    found = run(keep_1={**WHOLE, "prefill.0": 48.0})
    found[TEXT_ONLY] = series(TEXT_ONLY, {**BARE, "prefill.0": 47.0}, [], STEADY)
    (warning,) = judge(plan(0), found).warnings
    assert warning.startswith("pruning does not pay off here: image tokens take 4 % of TTFT")
    assert "20 text tokens and 16 image tokens" in warning
    tower = {**WHOLE, "vision": 4000.0}
    slow = {"1.0": series("1.0", tower, [], STEADY), TEXT_ONLY: run()[TEXT_ONLY]}
    (warning,) = judge(plan(0), slow).warnings
    assert "the vision graph alone takes 99 %" in warning


def test_a_long_answer_is_warned_of() -> None:
    found = run(keep_1={**WHOLE, "prefill.0": 8.0})
    for label, phases in (("1.0", WHOLE), ("0.1", {**WHOLE, "prefill.0": 8.0})):
        found[label] = series(label, phases, [10.0] * 400, STEADY)
    found[TEXT_ONLY] = series(TEXT_ONLY, BARE, [9.9] * 400, STEADY)
    (warning,) = judge(plan(0), found).warnings
    assert warning.startswith("decode-bound: 98 % of the whole answer is decode")


def test_a_keep_that_gains_nothing_and_a_drifting_machine_are_warned_of() -> None:
    found = run(np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]), keep_1=WHOLE)
    slow, drift = judge(plan(0), found).warnings
    assert slow.startswith("not measurably faster than keep 1.0 to the first token: keep 0.1")
    assert "keep 1.0 was 100 % slower in the second half" in drift


def test_a_bundle_that_does_not_prune_has_a_ceiling_all_the_same() -> None:
    bare = replace(plan(), methods=())
    found = run()
    verdict = judge(bare, found)
    assert verdict.ttft.best is None
    assert verdict.ttft.possible.value > 1.5
    assert "this bundle does not prune" in verdict.sentences[0]
