"""Every ``vtp`` command that is shown, at its smallest size."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import vtp as package

from . import pages
from .conftest import LayOut
from .pages import Words
from .shown import label, to_run

_WRITES = ("--out", "--html", "--trace", "--save-overlay")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("words", to_run("vtp"), ids=label)
def test_it_runs(vtp: Any, lay_out: LayOut, folder: Path, words: Words) -> None:
    lay_out(words)
    outcome = vtp(*words[1:])
    assert outcome.status == 0, outcome.err
    for option, value in pairwise(words):
        assert option not in _WRITES or (folder / value).exists()
    if "json" in words:
        assert json.loads(outcome.out)


@pytest.mark.parametrize(
    "line", [x for page in pages.PAGES for x in pages.lines(page) if x.startswith(pages.PYTHON)]
)
def test_a_line_of_python_runs(lay_out: LayOut, line: str) -> None:
    lay_out(("out/video-llava", "clip.mp4"))
    pipeline = package.load("out/video-llava")
    result = eval(line, {"vtp": package, "pipeline": pipeline})
    assert result.tokens
