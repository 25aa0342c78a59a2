"""Every module and script that is shown, at its smallest size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from vtp.bench import floors

from .conftest import LayOut
from .pages import ROOT, Words
from .shown import label, to_run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("words", to_run("python"), ids=label)
def test_it_runs(
    python: Callable[[Words], None],
    lay_out: LayOut,
    folder: Path,
    words: Words,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(floors, "_READ_BYTES", 2**24)
    lay_out(words)
    python(words[1:])
    for option, value in pairwise(words):
        assert option != "--out" or (folder / value).exists()
    # What docs/ holds is what its scripts write.
    for page in folder.glob("docs/**/*.md"):
        assert page.read_text() == (ROOT / page.relative_to(folder)).read_text(), "run: make docs"
