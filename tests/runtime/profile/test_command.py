"""``vtp profile``: forms, files, bad input, interruption."""

from __future__ import annotations

import csv
import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from vtp.runtime.profile.output import write_whole

FAST = ("--repeat", "1", "--warmup", "1", "--new-tokens", "2", "--keep", "0.1", "--no-operators")


def test_one_run_gives_tables_trace_and_page(vtp: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    page, trace = tmp_path / "p.html", tmp_path / "t.json"
    shares = tmp_path / "shares.json"
    shares.write_text('{"1.0": 0.98, "0.1": 0.97}')
    files = ("--html", page, "--trace", trace, "--accuracy", shares)
    outcome = vtp("profile", tiny_bundle, *FAST, *files)
    assert outcome.status == 0, outcome.err
    assert "the speedup of TTFT by pruning is at most" in outcome.out
    assert "round 1 of 1" in outcome.err
    assert "98.0 %" in page.read_text()
    assert json.loads(trace.read_text())["traceEvents"]
    assert sorted(tmp_path.iterdir()) == sorted((page, trace, shares))


def test_json_is_the_document(vtp: Any, tiny_bundle: Path, scene: Path) -> None:
    outcome = vtp(
        "profile", tiny_bundle, *FAST, "--format", "json", "--image", scene, "--prompt-tokens", "40"
    )
    found = json.loads(outcome.out)
    assert found["schema"]["version"] == 1
    assert found["workload"]["text_tokens"] == 40
    assert found["workload"]["images"] == [str(scene)]
    assert [row["keep"] for row in found["keeps"]] == ["1.0", "0.1"]
    # One round has no interval, and says so.
    assert found["keeps"][1]["metrics"]["time_to_first_token"]["p50_interval"] is None
    assert "fewer than 3 rounds" in found["absent"]["intervals"]
    assert "operators" in found["absent"]


@pytest.mark.parametrize("form", ["csv", "md"])
def test_other_forms_hold_every_statistic(vtp: Any, tiny_bundle: Path, form: str) -> None:
    out = vtp("profile", tiny_bundle, *FAST, "--format", form).out
    if form == "csv":
        rows = [row for row in csv.reader(io.StringIO(out)) if row and row[0] == "statistics"]
        metrics = {row[2] for row in rows}
    else:
        metrics = set(out.replace("|", " ").split())
    assert {"time_to_first_token", "request_latency", "inter_token_latency", "vision"} <= metrics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", "2.0"), "keep 2.0"),
        (("--keep", "0.5,0.25"), "repeat --keep"),
        (("--keep", "0.5/0.25"), "'0.5/0.25'"),
        (("--average", "2.0"), "keep 2.0"),
        (("--keep", "all"), "'all'"),
        (("--prompt-tokens", "3"), "at least"),
        (("--new-tokens", "100000"), "tokens are needed"),
        (("--image", "none.png"), "none.png"),
        (("--prompt", " "), "the prompt is empty"),
        (("--html", "no/such/folder/p.html"), "a path in a folder that exists"),
        (("--trace", "."), "not of a folder"),
        (("--accuracy", "none.json"), "there is no such file"),
        (("--engine", "quantum"), "quantum"),
        (("--guide", "none"), "is not a bundle"),
    ],
)
def test_bad_input_is_one_error(
    vtp: Any,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = vtp("profile", tiny_bundle, *FAST, "--html", "p.html", *options)
    assert message in outcome.error()
    assert outcome.out == ""
    assert list(tmp_path.iterdir()) == []


def test_no_bundle(vtp: Any, tmp_path: Path) -> None:
    assert "is not a bundle" in vtp("profile", tmp_path).error()


@pytest.mark.parametrize(
    "options", [("--repeat", "0"), ("--new-tokens", "0"), ("--prompt", "a", "--prompt-tokens", "9")]
)
def test_wrong_usage(vtp: Any, tiny_bundle: Path, options: tuple[str, ...]) -> None:
    assert vtp("profile", tiny_bundle, *options).status == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_profile_leaves_the_old_page(
    start_vtp: Any, tiny_bundle: Path, tmp_path: Path, number: signal.Signals
) -> None:
    page = tmp_path / "p.html"
    page.write_text("old")
    process = start_vtp(
        "profile", tiny_bundle, "--repeat", "1000", "--html", page, "--trace", tmp_path / "t.json"
    )
    for line in process.stderr:
        if line.startswith("round 2 "):
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=120)
    assert process.returncode in (130, 143, -signal.SIGINT), err
    assert out == ""
    assert "Traceback" not in err
    assert page.read_text() == "old"
    assert list(tmp_path.iterdir()) == [page]


def test_a_write_that_is_interrupted_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "p.html"
    target.write_text("old")
    write = Path.write_text

    def stopped(self: Path, text: str, **options: Any) -> int:
        write(self, text[:2], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_whole(target, "new page")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
