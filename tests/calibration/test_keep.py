"""`vtp calibrate keep` on the sample model: figures, the choice, and what it writes."""

from __future__ import annotations

import hashlib
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vtp as package
from vtp.calibration.default import write_default
from vtp.runtime.bundle.bundle import Bundle
from vtp.samples.scenes import same_answer
from vtp.samples.write_questions import write_questions

FEW = ("--keep", "0.1", "--keep", "0.02", "--confidence", "0", "--threads", "1")


def rows(out: str) -> list[dict[str, Any]]:
    """The one table of a JSON answer."""
    (found,) = json.loads(out).values()
    return list(found)


@pytest.fixture
def bundle(copy_of: Callable[[Path], Path], tiny_bundle: Path) -> Path:
    """The sample bundle, to be changed."""
    return copy_of(tiny_bundle)


@pytest.fixture
def calibrate(vtp: Any, tmp_path: Path) -> Callable[..., Any]:
    """``vtp calibrate keep`` with JSON output and an output folder of its own."""
    out = tmp_path / "found"
    return lambda *arguments: vtp("calibrate", "keep", *arguments, "--out", out, "--format", "json")


def test_figures_are_those_of_the_runtime(
    calibrate: Any, data_of: Callable[..., Path], bundle: Path
) -> None:
    """Asked and counted once more, by hand."""
    data = data_of(12)
    outcome = calibrate(bundle, "--data", data, *FEW, "--dry-run", "--max-drop", "100")
    assert outcome.status == 0, outcome.err
    pipeline = package.load(bundle, threads=1)
    entries = [json.loads(line) for line in data.read_text().splitlines()]

    def answers(keep: float) -> list[package.runtime.Result]:
        return [
            pipeline.generate(data.parent / e["image"], e["prompt"], keep=keep, temperature=0)
            for e in entries
        ]

    whole = answers(1.0)
    for row, keep in zip(rows(outcome.out), (1.0, 0.1, 0.02), strict=True):
        found = answers(keep)
        right = [same_answer(r.text, e["answer"]) for r, e in zip(found, entries, strict=True)]
        before = [same_answer(r.text, e["answer"]) for r, e in zip(whole, entries, strict=True)]
        same = [same_answer(a.text, b.text) for a, b in zip(found, whole, strict=True)]
        shares = [
            sum(a == b for a, b in zip(f.tokens, w.tokens, strict=False))
            / max(len(f.tokens), len(w.tokens))
            for f, w in zip(found, whole, strict=True)
        ]
        assert row["keep"] == str(keep)
        assert row["accuracy %"] == pytest.approx(100 * sum(right) / 12, abs=0.06)
        assert row["agreement %"] == pytest.approx(100 * sum(same) / 12, abs=0.06)
        assert row["token agreement %"] == pytest.approx(100 * sum(shares) / 12, abs=0.06)
        assert row["drop"] == pytest.approx(100 * (sum(before) - sum(right)) / 12, abs=0.006)
        assert row["tokens"] == found[0].average_tokens
        assert row["TTFT ms"] > 0


def test_without_answers_the_unpruned_model_is_the_measure(
    calibrate: Any, data_of: Callable[..., Path], bundle: Path
) -> None:
    def unanswered(line: str) -> str:
        entry = json.loads(line)
        del entry["answer"]
        return json.dumps(entry)

    data = data_of(12, unanswered)
    outcome = calibrate(bundle, "--data", data, *FEW, "--dry-run", "--max-drop", "100")
    for row in rows(outcome.out):
        assert row["accuracy %"] is None
        assert row["drop"] == pytest.approx(100 - row["agreement %"], abs=0.06)
    assert rows(outcome.out)[-1]["drop"] > 0


def test_the_choice_is_written_and_the_old_one_remembered(
    calibrate: Any, vtp: Any, data_of: Callable[..., Path], bundle: Path
) -> None:
    data = data_of(12)
    before = (bundle / "manifest.json").read_bytes()
    files = {p.name: p.read_bytes() for p in bundle.iterdir() if p.name != "manifest.json"}
    outcome = calibrate(bundle, "--data", data, *FEW, "--keep", "0.2", "--max-drop", "100")
    assert outcome.status == 0, outcome.err
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert [drop["keep"] for drop in manifest["plan"]["drops"]] == [0.02]
    (record,) = manifest["history"]
    assert record["field"] == "plan.drops.keep"
    assert (record["old"], record["new"]) == ([0.1], [0.02])
    assert record["replaced"] == hashlib.sha256(before).hexdigest()
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["when"])
    assert hashlib.sha256(data.read_bytes()).hexdigest()[:12] in record["why"]
    now = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    assert f"sha256 {now}" in outcome.err
    assert {p.name: p.read_bytes() for p in bundle.iterdir() if p.name in files} == files
    assert len(list(bundle.iterdir())) == len(files) + 1
    (change,) = json.loads(vtp("inspect", bundle, "--format", "json").out)["history"]
    assert (change["old"], change["new"], change["why"]) == ("0.1", "0.02", record["why"])
    # The bundle is whole, and answers with the new default.
    assert vtp("verify", bundle).status == 0
    entry = json.loads(data.read_text().splitlines()[0])
    result = package.load(bundle).generate(data.parent / entry["image"], entry["prompt"])
    assert result.image_tokens == round(0.02 * 256)
    # Once more: the journal answers, and there is nothing to write.
    again = calibrate(bundle, "--data", data, *FEW, "--keep", "0.2", "--max-drop", "100")
    assert rows(again.out) == rows(outcome.out)
    assert "default keep already 0.02" in again.err
    assert json.loads((bundle / "manifest.json").read_text()) == manifest


def test_engines_built_meanwhile_stay(bundle: Path, edit_json: Any) -> None:
    """The manifest is read anew before it is written."""
    opened = Bundle(bundle)
    edit_json(bundle / "manifest.json", lambda data: data | {"vtp": "another"})
    write_default(opened, (0.3,), "a test")
    assert Bundle(bundle).manifest.vtp == "another"
    assert Bundle(bundle).manifest.plan.keeps(None) == (0.3,)


def test_an_engine_too_small_for_the_choice_is_named(bundle: Path, edit_json: Any) -> None:
    limits = {
        "tokens": 100, "images": 1, "frames": 0, "tiles": 1, "rows": 256, "separators": 0,
        "counts": [30], "image_tokens": 256,
    }  # fmt: skip
    variant = {
        "name": "small", "engine": "tensorrt", "version": "10", "machine": "x86_64",
        "target": "onnx", "compute_capabilities": [], "cuda": None, "topk": "native",
        "plugin": None, "limits": limits, "engines": [],
    }  # fmt: skip
    edit_json(bundle / "manifest.json", lambda data: data | {"variants": [variant]})
    assert write_default(Bundle(bundle), (30,), "a test").beyond == ()
    (told,) = write_default(Bundle(bundle), (0.5,), "a test").beyond
    assert "--max-keep 0.5 --name small" in told


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--dry-run", None])
def test_several_bundles_are_compared_and_not_written(
    calibrate: Any,
    data_of: Callable[..., Path],
    bundle: Path,
    made_once: Any,
    option: str | None,
) -> None:
    from vtp.export import ExportOptions, export_model

    def export(out: Path) -> None:
        export_model("tiny", out, ExportOptions(method="random", targets=("ort",)))

    other = made_once("tiny-random-ort", export)
    before = [(path / "manifest.json").read_bytes() for path in (bundle, other)]
    more = [option] if option else []
    out = calibrate(bundle, other, "--data", data_of(12), *FEW, "--max-drop", "20", *more)
    found = rows(out.out)
    assert [row["method"] for row in found] == ["fastervlm"] * 3 + ["random"] * 3
    by_method = {(row["method"], row["keep"]): row for row in found}
    assert by_method["fastervlm", "0.1"]["drop"] < by_method["random", "0.1"]["drop"]
    assert [(path / "manifest.json").read_bytes() for path in (bundle, other)] == before


def test_pareto_and_picture(
    calibrate: Any, data_of: Callable[..., Path], bundle: Path, tmp_path: Path
) -> None:
    outcome = calibrate(
        bundle, "--data", data_of(12), *FEW, "--keep", "0.5", "--dry-run", "--max-drop", "100"
    )
    found = rows(outcome.out)
    for row in found:
        beaten = [
            other
            for other in found
            if (other["TTFT ms"] < row["TTFT ms"] and other["drop"] <= row["drop"])
            or (other["TTFT ms"] == row["TTFT ms"] and other["drop"] < row["drop"])
        ]
        assert (row["Pareto"] == "yes") == (not beaten)
    picture = ElementTree.parse(tmp_path / "found" / "keep.svg").getroot()
    told = [e.text or "" for e in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert len(told) == len(found)
    for row in found:
        (mark,) = (text for text in told if f"keep {row['keep']}:" in text)
        assert f"{row['accuracy %']:.1f}"[:-1] in mark


def test_a_bound_that_cannot_be_met_tells_the_best(
    calibrate: Any, data_of: Callable[..., Path], bundle: Path
) -> None:
    before = (bundle / "manifest.json").read_bytes()
    arguments = (bundle, "--data", data_of(12), "--keep", "0.1", "--keep", "0.01", "--threads", "1")
    outcome = calibrate(*arguments, "--max-drop", "0.5")
    message = outcome.error()
    assert "a drop of at most 0.5 points at 95 % confidence cannot be reached" in message
    assert "is keep 0.1 with a drop of" in message
    assert "more lines (539 if no answer changes)" in message
    assert [row["within"] for row in rows(outcome.out)] == ["yes", "no", "no"]
    assert (bundle / "manifest.json").read_bytes() == before
    # What the message offers does it.
    offered = re.search(r"--max-drop (\S+) gives", message)
    assert offered is not None
    again = calibrate(*arguments, "--max-drop", offered[1], "--dry-run")
    assert again.status == 0, again.err
    assert [row["within"] for row in rows(again.out)] == ["yes", "chosen", "no"]


def test_a_damaged_image_is_named_by_its_line(
    calibrate: Any, data_of: Callable[..., Path], bundle: Path
) -> None:
    data = data_of(3)
    (data.parent / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    lines = data.read_text().splitlines()
    lines[1] = json.dumps({"image": "broken.png", "prompt": "What is it?"})
    data.write_text("\n".join(lines))
    message = calibrate(bundle, "--data", data, *FEW).error()
    assert f"{data}, line 2: " in message
    assert "broken.png" in message
    assert Bundle(bundle).manifest.history == ()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--keep", "0.5,0.1"], "2 keep(s) were given"),
        (["--keep", "2"], None),
        (["--average", "2.0"], "out of range"),
        (["--keep", "300"], "out of range"),
    ],
)
def test_keeps_are_checked_before_anything_is_asked(
    calibrate: Any,
    data_of: Callable[..., Path],
    bundle: Path,
    tmp_path: Path,
    arguments: list[str],
    problem: str | None,
) -> None:
    outcome = calibrate(bundle, "--data", data_of(1), "--max-drop", "100", *arguments, "--dry-run")
    if problem is None:
        assert outcome.status == 0, outcome.err
    else:
        assert problem in outcome.error()
        assert not (tmp_path / "found").exists()


@pytest.mark.slow
def test_a_bundle_that_does_not_prune(
    calibrate: Any, data_of: Callable[..., Path], made_once: Any
) -> None:
    from vtp.export import ExportOptions, export_model

    def export(out: Path) -> None:
        export_model("tiny", out, ExportOptions(method="none", targets=("ort",)))

    plain = made_once("tiny-none-ort", export)
    assert "it does not prune" in calibrate(plain, "--data", data_of(1)).error()


@pytest.mark.slow
def test_the_choice_holds_on_questions_that_it_did_not_see(
    calibrate: Any, bundle: Path, tmp_path: Path
) -> None:
    seen = write_questions(tmp_path / "seen", 250, 61)
    unseen = write_questions(tmp_path / "unseen", 250, 62)
    tried = ["0.1", "8", "4", "3"]
    keeps = [part for keep in tried for part in ("--keep", keep)]
    outcome = calibrate(bundle, "--data", seen, *keeps, "--max-drop", "4", "--threads", "1")
    assert outcome.status == 0, outcome.err
    chosen = str(Bundle(bundle).manifest.plan.keeps(None)[0])
    smaller = tried[tried.index(chosen) + 1]
    both = ["--keep", chosen, "--keep", smaller]
    outcome = calibrate(
        bundle, "--data", unseen, *both, "--dry-run", "--max-drop", "100", "--threads", "1"
    )
    _, at_chosen, below = rows(outcome.out)
    assert at_chosen["drop"] <= 4
    assert below["drop"] > 4
