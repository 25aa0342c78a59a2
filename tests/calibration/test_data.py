"""Data files are read strictly: a wrong line is named, and nothing is taken then."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vtp.calibration.data import read_questions
from vtp.errors import DataInvalid, DataUnreadable


def test_a_line_is_a_question(data_of: Callable[..., Path], questions: Path) -> None:
    path = data_of(3)
    read = read_questions(path)
    lines = [json.loads(line) for line in questions.read_text().splitlines()[:3]]
    assert [q.prompt for q in read.questions] == [line["prompt"] for line in lines]
    assert [q.answers for q in read.questions] == [(line["answer"],) for line in lines]
    assert [q.line for q in read.questions] == [1, 2, 3]
    assert [q.image for q in read.questions] == [path.parent / line["image"] for line in lines]
    assert read.ignored == ("kind",)


def test_lines_may_be_empty_and_answers_none_one_or_several(data_of: Callable[..., Path]) -> None:
    path = data_of(1)
    entry = json.loads(path.read_text())
    wanted = [None, "red", ["red", "crimson"]]
    rows = [json.dumps(entry | {"answer": answer}) for answer in wanted]
    path.write_bytes(b"\xef\xbb\xbf" + f"{rows[0]}\r\n\n   \n{rows[1]}\n{rows[2]}".encode())
    read = read_questions(path).questions
    assert [q.answers for q in read] == [(), ("red",), ("red", "crimson")]
    assert [q.line for q in read] == [1, 4, 5]


def test_a_path_may_be_absolute(data_of: Callable[..., Path], scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text(json.dumps({"image": str(scene), "prompt": "?"}))
    assert read_questions(path).questions[0].image == scene


IMAGE = "images/00000.png"
WRONG = [
    (b"{", "it is not JSON"),
    (b"[]", "an object is needed, not list"),
    (b'"\xff"', "it is not UTF-8"),
    (b"[" * 100_000, "it is not JSON"),
    (b'{"prompt": "?"}', "'image' is missing"),
    (f'{{"image": "{IMAGE}"}}'.encode(), "'prompt' is missing"),
    (f'{{"image": "{IMAGE}", "prompt": " "}}'.encode(), "'prompt' must be a non-empty text"),
    (f'{{"image": ["{IMAGE}"], "prompt": "?"}}'.encode(), "'image' must be a non-empty text"),
    (b'{"image": "gone.png", "prompt": "?"}', "gone.png' is missing"),
    (b'{"image": "images", "prompt": "?"}', "images' is missing"),
    (b'{"image": "a\\u0000b", "prompt": "?"}', "is missing"),
    (f'{{"image": "{"n" * 5000}", "prompt": "?"}}'.encode(), "is missing"),
    (f'{{"image": "{IMAGE}", "prompt": "?", "answer": 4}}'.encode(), "'answer' must be a text"),
    (f'{{"image": "{IMAGE}", "prompt": "?", "answer": []}}'.encode(), "'answer' must be a text"),
]


@pytest.mark.parametrize(("line", "problem"), WRONG, ids=[p for _, p in WRONG])
def test_a_wrong_line_is_named(data_of: Callable[..., Path], line: bytes, problem: str) -> None:
    path = data_of(2)
    good = path.read_bytes()
    path.write_bytes(good + line + b"\n" + good + b"{\n")
    with pytest.raises(DataInvalid) as raised:
        read_questions(path)
    message = str(raised.value)
    assert f"{path}, line 3: " in message
    assert problem in message
    assert "(1 more line(s) have errors)" in message
    assert len(message) < 700


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "it is empty"), (b"\n \n", "it is empty"), (None, "no such file")],
)
def test_a_file_without_questions(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataUnreadable, match=problem):
        read_questions(path)


def test_a_folder_is_no_data_file(tmp_path: Path) -> None:
    with pytest.raises(DataUnreadable, match="it is a folder"):
        read_questions(tmp_path)


def test_the_digest_is_of_what_the_model_sees(data_of: Callable[..., Path], tmp_path: Path) -> None:
    path = data_of(1)
    entry = json.loads(path.read_text())
    before = read_questions(path).questions[0].digest()
    copy = tmp_path / "copy.png"
    copy.write_bytes((path.parent / entry["image"]).read_bytes())
    path.write_text(json.dumps(entry | {"image": str(copy), "answer": None}))
    assert read_questions(path).questions[0].digest() == before
    path.write_text(json.dumps(entry | {"prompt": "another"}))
    assert read_questions(path).questions[0].digest() != before
    copy.write_bytes(b"another")
    path.write_text(json.dumps(entry | {"image": str(copy)}))
    assert read_questions(path).questions[0].digest() != before
