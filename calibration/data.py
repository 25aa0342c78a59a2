"""Questions to calibrate on: one JSON object a line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import DataInvalid, DataUnreadable
from ..runtime.files.open_file import label_of, open_file

ENTRIES = ("image", "prompt", "answer")
"""What of a line is read."""
_MAX_BYTES = 2**28


@dataclass(frozen=True, kw_only=True)
class Question:
    """One line."""

    line: int
    """Counted from 1."""
    image: Path
    prompt: str
    answers: tuple[str, ...]
    """Answers that are right; none where the model's own, unpruned, is the measure."""

    def digest(self) -> str:
        """sha256 of what the model is shown: the image's bytes and the prompt."""
        picture = hashlib.sha256(self.image.read_bytes()).hexdigest()
        return hashlib.sha256(f"{picture} {self.prompt}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class QuestionFile:
    """A data file."""

    path: Path
    sha256: str
    questions: tuple[Question, ...]
    ignored: tuple[str, ...]
    """Entries that lines have and that are not read."""


def read_questions(path: Path) -> QuestionFile:
    """Read a data file; nothing of it is taken where a line is wrong.

    ``image`` is a path, of the data file's folder if it is relative; ``prompt`` a text; ``answer``
    a text, a list of texts that are all right, or null or absent. Empty lines are passed over,
    other entries not read.

    Raises:
        DataUnreadable: it cannot be opened, or has no line.
        DataInvalid: the first line that is wrong, and how many more are.
    """
    label = label_of(path)
    with open_file(path, label, "a JSON-lines", DataUnreadable) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise DataUnreadable(label, f"it is larger than {_MAX_BYTES:,} bytes")
    questions: list[Question] = []
    wrong: list[tuple[int, str]] = []
    ignored: set[str] = set()
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            entry = _object(line)
            questions.append(_question(entry, number, path.parent))
            ignored |= entry.keys() - set(ENTRIES)
        except ValueError as error:
            wrong.append((number, str(error)))
    if wrong:
        raise DataInvalid(label, *wrong[0], more=len(wrong) - 1)
    if not questions:
        raise DataUnreadable(label, "it is empty")
    return QuestionFile(
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        questions=tuple(questions),
        ignored=tuple(sorted(ignored)),
    )


def _object(line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg} at column {error.colno})") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(entry, dict):
        raise ValueError(f"an object is needed, not {type(entry).__name__}")
    return entry


def _question(entry: dict[str, Any], number: int, folder: Path) -> Question:
    for name in ("image", "prompt"):
        if name not in entry:
            raise ValueError(f"{name!r} is missing")
        if not isinstance(entry[name], str) or not entry[name].strip():
            raise ValueError(f"{name!r} must be a non-empty text, not {entry[name]!r:.80}")
    image = folder / entry["image"]
    try:
        found = image.is_file()
    except (OSError, ValueError):  # a name that no file can have
        found = False
    if not found:
        raise ValueError(f"image {label_of(image)!r} is missing")
    return Question(
        line=number, image=image, prompt=entry["prompt"], answers=_answers(entry.get("answer"))
    )


def _answers(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    answers = given if isinstance(given, list) else [given]
    if not answers or not all(isinstance(one, str) and one.strip() for one in answers):
        raise ValueError(
            f"'answer' must be a text, or a list of texts, none of them empty, not {given!r:.80}; "
            "leave it out to measure agreement with the unpruned model"
        )
    return tuple(answers)
