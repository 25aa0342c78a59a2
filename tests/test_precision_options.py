"""``--dtype``, ``--weights``, ``--block`` and ``--symmetric`` of ``vtp export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("given", [["--block", "64"], ["--asymmetric"], ["--symmetric"]])
def test_an_option_of_quantized_weights_needs_them(
    vtp: Any, tmp_path: Path, given: list[str]
) -> None:
    outcome = vtp("export", "tiny", "--out", tmp_path / "out", *given)
    assert outcome.status == 2
    assert "options of --weights" in outcome.err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--weights", "int4", "--asymmetric"], "target onnx does not support zero points"),
        (
            ["--weights", "int4", "--asymmetric", "--target", "trt10"],
            "target trt10 does not support zero",
        ),
        (["--dtype", "bfloat16", "--target", "ort"], "target ort does not support bfloat16"),
        (["--weights", "int4", "--block", "256"], "--block"),
    ],
)
def test_what_cannot_be_had_is_one_error(
    vtp: Any, random_llava: Path, tmp_path: Path, given: list[str], says: str
) -> None:
    outcome = vtp("export", random_llava, "--out", tmp_path / "out", *given)
    assert says in outcome.error()
    assert not (tmp_path / "out").exists()


def test_inspect_shows_the_weights(vtp: Any, random_llava: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = ["--target", "ort", "--weights", "int8", "--block", "64", "--asymmetric"]
    assert vtp("export", random_llava, "--out", out, *given).status == 0
    facts = {
        row["entry"]: row["value"]
        for row in json.loads(vtp("inspect", out, "--format", "json").out)["bundle"]
    }
    assert facts["type"] == "float32"
    assert facts["weights"].endswith("decoder and head int8, asymmetric, blocks of 64")
    assert 0 < facts["change of logits by rounding weights"] < 0.1
    shown = json.loads(vtp("verify", out, "--format", "json").out)
    assert shown
