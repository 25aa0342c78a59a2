"""`vtp calibrate schedule`: greedy and sigmoid on the sample model, and the plan for export."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from vtp.calibration.schedule import sigmoid_counts
from vtp.calibration.work_bundle import spread
from vtp.export import ExportOptions, export_model
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.plan import Drop, Plan
from vtp.samples.write_questions import write_questions


def rows(out: str) -> dict[str, dict[str, Any]]:
    """The table of a JSON answer, by the form of the schedule."""
    (found,) = json.loads(out).values()
    return {row["schedule"]: row for row in found}


@pytest.mark.slow
@pytest.mark.parametrize("asked", [("--max-drop", "5"), ("--average", "0.3")])
def test_it_beats_the_uniform_schedule_on_questions_that_it_did_not_see(
    vtp: Any, search_bundle: Path, tmp_path: Path, asked: tuple[str, str]
) -> None:
    seen = write_questions(tmp_path / "seen", 60, 71)
    out = tmp_path / "found"
    options = ("--out", out, "--threads", "1", "--format", "json")
    outcome = vtp("calibrate", "schedule", search_bundle, "--data", seen, *asked, *options)
    assert outcome.status == 0, outcome.err
    shown = rows(outcome.out)
    found = shown["greedy" if asked[0] == "--max-drop" else "sigmoid"]
    assert shown["uniform"]["average"] >= found["average"]
    assert shown["unpruned"]["average"] == 256
    if asked[0] == "--max-drop":
        assert 0 <= found["drop"] <= 5
        assert found["average"] < 100
    else:
        assert 0.29 * 256 < found["average"] <= 0.3 * 256
    plan = json.loads((out / "plan.json").read_text())
    counts = [int(count) for count in found["tokens after each drop"].split(", ")]
    assert counts == sorted(counts, reverse=True)
    kept = [float(stage.split(":")[1]) for stage in plan["stages"]]
    assert [round(256 * keep) for keep in kept] == list(dict.fromkeys(counts))

    unseen = write_questions(tmp_path / "unseen", 120, 72)
    keeps = [",".join(found["tokens after each drop"].split(", "))]
    keeps.append(",".join(shown["uniform"]["tokens after each drop"].split(", ")))
    outcome = vtp(
        "calibrate", "keep", search_bundle, "--data", unseen, "--dry-run", "--max-drop", "100",
        *(part for keep in keeps for part in ("--keep", keep)), *options,
    )  # fmt: skip
    (table,) = json.loads(outcome.out).values()
    by_keep = {row["keep"]: row for row in table}
    better, uniform = (by_keep[keep] for keep in keeps)
    assert better["tokens"] <= uniform["tokens"]
    assert better["accuracy %"] >= uniform["accuracy %"] + 2


@pytest.mark.slow
def test_from_a_model_to_a_bundle_with_the_plan(
    vtp: Any, random_llava: Path, data_of: Callable[..., Path], tmp_path: Path
) -> None:
    data, out = data_of(2), tmp_path / "found"
    arguments = (
        "calibrate", "schedule", random_llava, "--data", data, "--out", out, "--max-drop", "100",
        "--max-new-tokens", "2", "--method", "fastervlm", "--threads", "1",
    )  # fmt: skip
    outcome = vtp(*arguments)
    assert outcome.status == 0, outcome.err
    plan = json.loads((out / "plan.json").read_text())
    # With everything allowed nothing is kept: the vision side drops all but one, the decoder none.
    assert (plan["method"], plan["keep"], plan["stages"]) == ("fastervlm", [1 / 16], [])
    exported = vtp("export", random_llava, "--plan", out / "plan.json", "--out", tmp_path / "new")
    assert exported.status == 0, exported.err
    drops = Bundle(tmp_path / "new").manifest.plan.drops
    assert [(drop.layer, drop.keep) for drop in drops] == [(0, 1 / 16)]
    # Once more: the bundle and the answers are there already.
    before = (out / "bundle" / "manifest.json").stat().st_mtime_ns
    again = vtp(*arguments)
    assert again.status == 0, again.err
    assert "tracing" not in again.err
    assert (out / "bundle" / "manifest.json").stat().st_mtime_ns == before
    # Another search does not take it.
    other = vtp(*arguments, "--score", "next-attention")
    assert "it was exported for another search" in other.error()


@pytest.mark.slow
def test_a_plan_with_drops_on_both_sides(vtp: Any, random_llava: Path, tmp_path: Path) -> None:
    """Written by ``plan_file`` and read by ``vtp export``, the plan is what it was."""
    from vtp.export.plan.plan_file import plan_file

    exported = vtp(
        "export", random_llava, "--method", "vispruner+schedule", "--stage", "1:0.25:attention",
        "--set", "important=0.25", "--set", "budget=image", "--positions", "compact",
        "--keep", "0.5,0.25", "--target", "ort", "--out", tmp_path / "one",
    )  # fmt: skip
    assert exported.status == 0, exported.err
    wanted = Bundle(tmp_path / "one").manifest.plan
    path = tmp_path / "plan.json"
    path.write_text(plan_file(wanted, (0.5, 0.25), {}).to_json())
    exported = vtp(
        "export", random_llava, "--plan", path, "--target", "ort", "--out", tmp_path / "two"
    )
    assert exported.status == 0, exported.err
    found = Bundle(tmp_path / "two").manifest.plan
    assert found.drops == wanted.drops
    assert found.positions == wanted.positions
    assert found.methods[0] == wanted.methods[0]
    # A drop that drops nothing is left out, and with it the method that made it.
    assert plan_file(wanted, (0.5, 0.5), {}).method == "vispruner"
    only = plan_file(wanted, (1.0, 0.25), {})
    assert (only.method, only.keep, only.stages) == ("schedule", (0.25,), ("1:0.25:attention",))
    assert plan_file(wanted, (1.0, 1.0), {}).method == "none"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "it is not JSON"),
        ("[]", "'vtp_plan': 1 is needed"),
        ('{"vtp_plan": 2, "method": null}', "'vtp_plan': 1 is needed, not 2"),
        ('{"vtp_plan": true, "method": null}', "'vtp_plan': 1 is needed, not True"),
        ('{"vtp_plan": 1}', "'method' is missing"),
        ('{"vtp_plan": 1, "method": null, "stage": []}', "unknown entry 'stage'"),
        ('{"vtp_plan": 1, "method": null, "keep": ["a"]}', "plan.keep"),
        ('{"vtp_plan": 1, "method": "nothing-known"}', "'nothing-known' is unknown"),
        ('{"vtp_plan": 1, "method": null, "stages": ["9:0.5:attention"]}', "layers"),
        (None, "no such file"),
    ],
)
def test_a_plan_file_that_is_none(
    vtp: Any, random_llava: Path, tmp_path: Path, content: str | None, problem: str
) -> None:
    path = tmp_path / "plan.json"
    if content is not None:
        path.write_text(content)
    outcome = vtp("export", random_llava, "--plan", path, "--out", tmp_path / "out")
    assert problem in outcome.error()
    assert not (tmp_path / "out").exists()


def test_a_plan_says_it_all(vtp: Any, random_llava: Path, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    outcome = vtp("export", random_llava, "--plan", path, "--keep", "0.1", "--out", tmp_path / "o")
    assert outcome.status == 2
    assert "leave out --keep" in outcome.err


def test_a_bundle_without_a_schedule(
    vtp: Any, tiny_bundle: Path, data_of: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = ("calibrate", "schedule", tiny_bundle, "--data", data_of(1), "--out", tmp_path)
    assert "it has no free schedule" in vtp(*arguments).error()
    outcome = vtp(*arguments, "--score", "attention")
    assert outcome.status == 2
    assert "already has a plan" in outcome.err


def made_plan(layers: int, drops: tuple[int, ...], tokens: int = 256) -> Plan:
    """A plan with drops at these layers."""
    return Plan(
        methods=(),
        tokens=tokens,
        grid=(1, tokens),
        layers=layers,
        drops=tuple(Drop(layer=n, keep=1.0, score="attention", score_layer=n - 1) for n in drops),
        positions="original",
    )


@pytest.mark.parametrize("steepness", [0.0, 2.0, 7.5, 64.0])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_the_sigmoid_meets_its_budget(steepness: float, share: float) -> None:
    plan = made_plan(16, tuple(range(1, 16)), 10_000)
    counts = sigmoid_counts(plan, share * 10_000, steepness)
    assert list(counts) == sorted(counts, reverse=True)
    reached = (10_000 + sum(counts)) / 16
    assert share * 10_000 - 15 <= reached <= share * 10_000
    # log(r / (1 - r)) of a sigmoid falls in a straight line: by steepness / layers a layer.
    ratios = [count / 10_000 for count in counts if 100 < count < 9_900]
    heights = [math.log(r / (1 - r)) for r in ratios]
    for above, below in pairwise(heights):
        assert above - below == pytest.approx(steepness / 16, abs=0.03)


def test_a_budget_out_of_reach(
    vtp: Any, random_llava: Path, data_of: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    options = ExportOptions(stages=("1:1.0:attention",), targets=("ort",))
    export_model(str(random_llava), bundle, options)
    outcome = vtp(
        "calibrate", "schedule", bundle, "--data", data_of(1), "--out", tmp_path,
        "--average", "0.2", "--threads", "1",
    )  # fmt: skip
    message = outcome.error()
    assert "out of reach" in message
    assert not (tmp_path / "plan.json").exists()


@pytest.mark.parametrize("layers", [2, 4, 9, 10, 32, 80])
def test_layers_to_consider(layers: int) -> None:
    places = spread(layers)
    assert places[0] == 1
    assert places[-1] < layers
    assert len(set(places)) == len(places) == min(8, layers - 1)
    gaps = [b - a for a, b in pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1
