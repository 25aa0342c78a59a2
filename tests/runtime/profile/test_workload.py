"""Which requests a profile makes."""

from __future__ import annotations

from pathlib import Path

import pytest

import vtp
from vtp.errors import AverageOutOfReach, KeepCountMismatch, KeepOutOfRange, OptionInvalid
from vtp.runtime.bundle.plan import Drop, MethodRecord, Plan
from vtp.runtime.profile import make_workload
from vtp.runtime.profile.workload import TEXT_ONLY, points


def plan(*layers: int) -> Plan:
    return Plan(
        methods=(MethodRecord(name="m", parameters={}),),
        tokens=64,
        grid=(8, 8),
        layers=8,
        drops=tuple(
            Drop(layer=layer, keep=0.5**n, score="cls", score_layer=None)
            for n, layer in enumerate(layers, start=1)
        ),
        positions="compact",
    )


def found(
    plan: Plan, keeps: list[str] | None, averages: tuple[str, ...] = ()
) -> dict[str, tuple[float | int, ...]]:
    return {point.label: point.keeps for point in points(plan, keeps, averages)}


def test_keep_one_comes_first_and_the_question_alone_last() -> None:
    assert found(plan(0), ["0.25", "8", "0.250"]) == {
        "1.0": (1.0,),
        "0.25": (0.25,),
        "8": (8,),
        TEXT_ONLY: (),
    }
    assert list(found(plan(0), ["0.5", "1.0"])) == ["1.0", "0.5", TEXT_ONLY]


def test_a_plan_of_several_drops_takes_a_mean_or_one_for_each() -> None:
    schedule = plan(2, 4, 6)
    keeps = found(schedule, ["0.5,0.25,0.125"], ("0.5",))
    assert keeps["0.5,0.25,0.125"] == (0.5, 0.25, 0.125)
    assert schedule.average(schedule.counts(keeps["0.5"], 1), 1) == pytest.approx(32, abs=2)
    # Two of eight layers read everything.
    with pytest.raises(AverageOutOfReach):
        found(schedule, None, ("0.05",))
    assert list(found(schedule, None)) == ["1.0", "0.5", "0.5,0.25,0.125", TEXT_ONLY]
    assert list(found(schedule, None, ("0.5",))) == ["1.0", "0.5", TEXT_ONLY]
    with pytest.raises(KeepCountMismatch):
        found(schedule, ["0.5"])


def test_an_average_of_one_drop_is_the_keep_that_reaches_it() -> None:
    assert found(plan(0), None, ("0.25",)) == {"1.0": (1.0,), "16": (16,), TEXT_ONLY: ()}


def test_a_bundle_without_pruning_is_measured_as_it_is() -> None:
    assert list(found(plan(), None)) == ["1.0", TEXT_ONLY]
    with pytest.raises(KeepOutOfRange):
        found(plan(), ["0.5"])


@pytest.mark.parametrize("keep", ["0", "1.5", "x", "", "-1", "nan"])
def test_a_keep_that_is_none_is_refused(keep: str) -> None:
    with pytest.raises(KeepOutOfRange):
        points(plan(0), ["0.5", keep])


def test_a_keep_for_each_of_too_many_drops_is_refused() -> None:
    with pytest.raises(KeepCountMismatch):
        points(plan(0), ["0.5,0.25"])


@pytest.fixture(scope="module")
def pipeline(tiny_bundle: Path) -> vtp.Pipeline:
    return vtp.load(tiny_bundle, "cpu", threads=1, verify=False)


@pytest.mark.parametrize("tokens", [10, 11, 40, 173])
def test_a_question_of_so_many_tokens(pipeline: vtp.Pipeline, tokens: int) -> None:
    workload = make_workload(pipeline, prompt_tokens=tokens, new_tokens=1)
    result = pipeline.generate(workload.images[0], workload.prompt, keep=1.0, max_new_tokens=1)
    assert result.prompt_tokens - result.image_tokens == tokens
    bare = pipeline.generate(None, workload.text_only_prompt, max_new_tokens=1)
    assert (bare.image_tokens, bare.prompt_tokens) == (0, tokens)


def test_fewer_tokens_than_the_chat_template_has(pipeline: vtp.Pipeline) -> None:
    with pytest.raises(OptionInvalid, match="prompt tokens 2 is not accepted: give at least"):
        make_workload(pipeline, prompt_tokens=2)


def test_the_bundles_own_sample_is_the_default(pipeline: vtp.Pipeline) -> None:
    workload = make_workload(pipeline)
    assert workload.images[0].name == "golden.png"
    assert workload.prompt == pipeline.bundle.manifest.golden.prompt


def test_image_tokens_in_the_question_go_without_the_image(pipeline: vtp.Pipeline) -> None:
    workload = make_workload(pipeline, prompt="<image> what is it?")
    assert workload.text_only_prompt == "what is it?"
