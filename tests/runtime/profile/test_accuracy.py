"""Accuracy from a file: as a mapping, or as the evaluation prints it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vtp.errors import OptionInvalid
from vtp.runtime.profile.accuracy import read_accuracy

KEEPS = ("1.0", "0.5", "text only")


def written(folder: Path, text: str) -> Path:
    path = folder / "accuracy.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_mapping(tmp_path: Path) -> None:
    shares = {"1.0": 0.9, "0.5": 1}
    assert read_accuracy(written(tmp_path, json.dumps(shares)), KEEPS) == {"1.0": 0.9, "0.5": 1.0}
    assert read_accuracy(written(tmp_path, json.dumps(shares, indent=1)), KEEPS) == shares


def test_the_output_of_the_evaluation(tmp_path: Path) -> None:
    """Tables in Markdown, then one line; an average out of reach is null."""
    figures = {"accuracy": {"tiny": {"1.0": {"average": 0.98, "count": 3.0}, "0.05": None}}}
    text = f"| method | 100 % |\n|---|---|\n{json.dumps(figures)}\n"
    assert read_accuracy(written(tmp_path, text), KEEPS) == {"1.0": 0.98}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[1]",
        "{}",
        '{"1.0": 2}',
        '{"1.0": "x"}',
        '{"1.0": NaN}',
        '{"1.0": true}',
        '{"accuracy": {"a": {"1.0": {"average": 1}}, "b": {}}}',
        "[" * 10000,
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(OptionInvalid, match=r"--accuracy .* is not accepted: give a JSON file"):
        read_accuracy(written(tmp_path, text), KEEPS)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match="there is no such file"):
        read_accuracy(tmp_path / "none.json", KEEPS)


def test_accuracy_of_other_keeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionInvalid, match=r"it has keep 0\.3, but 1\.0, 0\.5"):
        read_accuracy(written(tmp_path, '{"0.3": 0.5}'), KEEPS)
