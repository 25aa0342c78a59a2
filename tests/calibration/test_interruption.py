"""An interrupted calibration goes on where it was, and leaves bundles as they were."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIGURES = ("keep", "tokens", "accuracy %", "agreement %", "token agreement %", "drop", "within")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_lost_and_nothing_asked_twice(
    start_vtp: Any,
    vtp: Any,
    questions: Path,
    copy_of: Callable[[Path], Path],
    tiny_bundle: Path,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    bundle = copy_of(tiny_bundle)
    keeps = [part for keep in ("0.5", "0.1") for part in ("--keep", keep)]
    arguments = (
        "calibrate", "keep", bundle, "--data", questions, *keeps,
        "--max-drop", "100", "--threads", "1", "--format", "json",
    )  # fmt: skip
    answers = 40 * 3
    before = (bundle / "manifest.json").read_bytes()

    process = start_vtp(*arguments, "--out", tmp_path / "stopped")
    journal = tmp_path / "stopped" / "journal.jsonl"
    until = time.monotonic() + 60
    while not journal.exists() or journal.read_bytes().count(b"\n") < 20:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert "Traceback" not in err
    left = journal.read_bytes()
    whole = left[: left.rfind(b"\n") + 1]
    done = whole.count(b"\n") - 1
    assert 19 <= done < answers
    if number != signal.SIGKILL:
        assert f"[{done} answers are stored in {journal}; run the command again" in err
    assert (bundle / "manifest.json").read_bytes() == before
    assert [p.name for p in journal.parent.iterdir()] == ["journal.jsonl"]

    resumed = vtp(*arguments, "--out", tmp_path / "stopped")
    assert resumed.status == 0, resumed.err
    assert f"has {done} answers" in resumed.err
    now = journal.read_bytes()
    assert now.startswith(whole)
    entries = [json.loads(line) for line in now.splitlines()[1:]]
    assert len(entries) == len({entry["key"] for entry in entries}) == answers

    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_bytes(before)
    undisturbed = vtp(*arguments, "--out", tmp_path / "undisturbed")
    (one,), (other,) = (json.loads(o.out).values() for o in (resumed, undisturbed))
    assert [[row[name] for name in FIGURES] for row in one] == [
        [row[name] for name in FIGURES] for row in other
    ]
    again = json.loads((bundle / "manifest.json").read_text())
    assert again["plan"] == manifest["plan"]


def test_an_interruption_while_the_manifest_is_written(
    copy_of: Callable[[Path], Path], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes, before the file is moved into place, the old manifest stays alone."""
    from vtp.calibration.default import write_default
    from vtp.runtime.bundle.bundle import Bundle

    bundle = copy_of(tiny_bundle)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    for owner, name in ((os, "fsync"), (Path, "chmod"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stopped)
            with pytest.raises(KeyboardInterrupt):
                write_default(Bundle(bundle), (0.5,), "a test")
        assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_two_calibrations_do_not_share_a_journal(
    vtp: Any, questions: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    from vtp.calibration.journal import Journal

    with Journal(tmp_path / "journal.jsonl"):
        outcome = vtp("calibrate", "keep", tiny_bundle, "--data", questions, "--out", tmp_path)
    assert "is in use by another calibration" in outcome.error()
