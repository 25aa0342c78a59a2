"""`vtp calibrate exit`: thresholds of the sample models, and what the runtime does with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vtp as package
from vtp.samples.scenes import same_answer
from vtp.samples.write_questions import write_questions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def pair(sgl_bundle: Path, guide_bundle: Path) -> tuple[Path, Path]:
    """The sample model that is guided, and its guide."""
    return sgl_bundle, guide_bundle


@pytest.fixture
def calibrate(vtp: Any, pair: tuple[Path, Path], tmp_path: Path) -> Callable[..., Any]:
    """``vtp calibrate exit`` with JSON output."""
    options = ("--out", tmp_path / "found", "--threads", "1", "--format", "json")
    return lambda *arguments: vtp(
        "calibrate", "exit", pair[0], "--guide", pair[1], *arguments, *options
    )


def table(out: str) -> list[dict[str, Any]]:
    """The rows of a JSON answer."""
    (rows,) = json.loads(out).values()
    return list(rows)


def chosen(out: str) -> dict[str, Any]:
    """The row that was chosen."""
    (row,) = (row for row in table(out) if row["choice"])
    return dict(row)


def test_a_threshold_does_what_the_table_says(
    calibrate: Any, questions: Path, pair: tuple[Path, Path]
) -> None:
    """Asked once more with the threshold itself."""
    outcome = calibrate("--data", questions, "--exits", "60")
    assert outcome.status == 0, outcome.err
    row = chosen(outcome.out)
    assert 60 <= row["exits %"] < 70
    pipeline = package.load(pair[0], guide=pair[1], threads=1)
    entries = [json.loads(line) for line in questions.read_text().splitlines()]
    results = [
        pipeline.generate(
            questions.parent / entry["image"],
            entry["prompt"],
            temperature=0,
            exit_threshold=float(row["threshold"]),
        )
        for entry in entries
    ]
    exits = [r.guide is not None and r.guide.exited for r in results]
    right = [same_answer(r.text, e["answer"]) for r, e in zip(results, entries, strict=True)]
    assert row["exits %"] == pytest.approx(100 * sum(exits) / 40, abs=0.06)
    assert row["accuracy %"] == pytest.approx(100 * sum(right) / 40, abs=0.006)
    assert f"--exit-threshold {row['threshold']}" in outcome.err


def test_wishes(calibrate: Any, questions: Path) -> None:
    """All from one journal; more exits are a lower threshold."""
    measured = ("--data", questions, "--confidence", "0")
    by_exits = [chosen(calibrate(*measured, "--exits", share).out) for share in ("20", "60", "100")]
    thresholds = [float(row["threshold"]) for row in by_exits]
    assert thresholds == sorted(thresholds, reverse=True)
    assert by_exits[-1]["exits %"] == 100
    free = chosen(calibrate(*measured, "--max-drop", "100").out)
    assert free["exits %"] == 100
    strict = chosen(calibrate(*measured, "--max-drop", "0").out)
    assert strict["drop"] <= 0
    rows = table(calibrate(*measured, "--accuracy", "90").out)
    least = next(row for row in rows if row["choice"])
    assert least["accuracy %"] >= 90
    outcome = calibrate("--data", questions)
    assert "a drop of at most 1 points at 95 % confidence cannot be reached" in outcome.error()
    assert "about 268 if no answer gets worse" in outcome.error()
    assert "asking" in outcome.err
    assert "40 answers" in outcome.err


def test_an_accuracy_that_cannot_be_had_tells_the_best(calibrate: Any, questions: Path) -> None:
    message = calibrate("--data", questions, "--accuracy", "100").error()
    assert "an accuracy of 100 % at 95 % confidence cannot be reached" in message
    assert "the large model alone has" in message


def test_two_wishes_are_one_too_many(calibrate: Any, questions: Path) -> None:
    outcome = calibrate("--data", questions, "--accuracy", "90", "--exits", "10")
    assert outcome.status == 2
    assert "give only one of --accuracy, --exits" in outcome.err


def test_the_choice_holds_on_questions_that_it_did_not_see(calibrate: Any, tmp_path: Path) -> None:
    seen = write_questions(tmp_path / "seen", 200, 81)
    unseen = write_questions(tmp_path / "unseen", 200, 82)
    row = chosen(calibrate("--data", seen, "--max-drop", "2").out)
    assert row["exits %"] > 30
    rows = table(calibrate("--data", unseen, "--max-drop", "100", "--confidence", "0").out)
    same = [r for r in rows if float(r["threshold"]) >= float(row["threshold"])]
    assert same
    assert max(r["drop"] for r in same) <= 2
