"""Questions about drawn scenes, and bundles of the sample models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtp.samples.write_questions import write_questions


@pytest.fixture(scope="session")
def questions(made_once: Any) -> Path:
    """A data file of 40 questions with answers."""
    folder = made_once("questions-40", lambda out: write_questions(out, 40, 51))
    return Path(folder) / "questions.jsonl"


@pytest.fixture
def data_of(tmp_path: Path, questions: Path) -> Callable[..., Path]:
    """Makes a data file of the first lines of ``questions``, in a folder of its own."""

    def make(lines: int, change: Callable[[str], str] = str) -> Path:
        path = tmp_path / "data" / "some.jsonl"
        path.parent.mkdir(exist_ok=True)
        if not (path.parent / "images").exists():
            (path.parent / "images").symlink_to(questions.parent / "images")
        taken = questions.read_text().splitlines()[:lines]
        path.write_text("".join(f"{change(line)}\n" for line in taken))
        return path

    return make
