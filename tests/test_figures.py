"""The scripts behind the published figures run, on the sample model and a few questions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vtp.bench import methods
from vtp.samples import evaluate


def test_accuracy_at_equal_averages(
    tiny_bundle: Path, sgl_bundle: Path, guide_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundles = [f"vision={tiny_bundle}", f"decoder={sgl_bundle}"]
    evaluate.main(
        [
            *bundles,
            "--count",
            "7",
            "--average",
            "0.5",
            "--average",
            "0.1",
            "--guide",
            str(guide_bundle),
        ]
    )
    out, err = capsys.readouterr()
    table = [line.split("|")[1:-1] for line in out.splitlines()[2:4]]
    assert [row[0].strip() for row in table] == ["vision", "decoder"]
    # One of four layers reads all tokens: an average of a tenth is out of reach.
    assert table[1][2].strip() == "-"
    assert "at least 0.25" in err
    figures = json.loads(out.splitlines()[-1])["accuracy"]
    assert figures["vision"]["0.5"]["tokens"] == 128
    assert figures["decoder"]["0.5"]["tokens"] == pytest.approx(128, abs=1)
    # A trained model: it must know most answers, through every place to drop.
    assert all(row["0.5"]["average"] > 0.6 for row in figures.values())


def test_accuracy_by_exit_threshold(
    sgl_bundle: Path, guide_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = [part for at in ("2", "0.9", "0") for part in ("--threshold", at)]
    asked = ["--count", "7", "--guide", str(guide_bundle), *thresholds]
    evaluate.main([f"sgl={sgl_bundle}", *asked])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])["accuracy"]["sgl"]
    never, sometimes, always = (figures[key]["exits"] for key in ("2.0", "0.9", "0.0"))
    assert never == 0
    assert 0 < sometimes < 1
    assert always == 1


def test_a_row_of_the_methods_table(tiny_bundle: Path) -> None:
    row: dict[str, Any] = methods.measure(tiny_bundle, 1, 3, 1, 0.5)
    assert row["kv_allocated"] == row["kv_predicted"] > 0
    assert row["stages"] == [128]
    assert 0 < row["vision"] < row["ttft"]
    assert row["guide"] == 0
    assert "| `fastervlm` | 128 | 128.0 |" in methods.table({"fastervlm": row})


def test_a_row_with_a_guide(sgl_bundle: Path, guide_bundle: Path) -> None:
    row = methods.measure(sgl_bundle, 1, 3, 1, 0.5, guide_bundle)
    assert row["stages"][0] == 256
    assert row["average"] == pytest.approx(128, abs=1)
    assert 0 < row["guide"] < row["ttft"]
    assert row["ttft"] > row["guide"] + row["vision"] + row["prefill"]
