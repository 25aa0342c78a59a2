"""``make gpu-check`` runs with what it finds; without a device it says why checks are left out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from vtp.bench.gpu.__main__ import CHECKS, report, run_check


def test_without_a_device_every_check_says_why(
    no_device: str, tmp_path: Path, python_environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vtp.bench.gpu", "--work", str(tmp_path)],
        capture_output=True,
        text=True,
        env=python_environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == list(CHECKS)
    facts = {row["what"]: row["is"] for row in found["machine"]["rows"]}
    assert facts["Python"].startswith("3.")
    for name in ("kernel", "engines", "profile", "transformers"):
        assert found[name]["skipped"] == no_device
    assert f"skipped: {no_device}" in done.stdout


def test_a_check_that_dies_is_told_and_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert run_check("kernel", tmp_path, None) == {"failed": "ended with status 1 and no result"}


def test_the_report_is_a_table_for_each_check() -> None:
    rows = [{"engine": "cpu", "ms": 1.5}, {"engine": "cuda", "note": "new"}]
    text = report({"engines": {"rows": rows, "notes": ["warm"]}, "kernel": {"failed": "no"}})
    assert (
        "| engine | ms | note |\n| --- | --- | --- |\n| cpu | 1.5 |  |\n| cuda |  | new |" in text
    )
    assert "- warm" in text
    assert "failed: no" in text
