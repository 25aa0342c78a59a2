"""The journal holds every line that was written, whatever happened to the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtp.calibration.journal import Journal
from vtp.errors import JournalBusy, JournalInvalid


def filled(path: Path) -> Path:
    """A journal of two entries."""
    with Journal(path) as journal:
        journal.add("a", {"n": 1})
        journal.add("b", {"n": 2})
    return path


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    with Journal(filled(tmp_path / "new" / "j.jsonl")) as journal:
        assert len(journal) == 2
        assert (journal.get("a"), journal.get("b"), journal.get("c")) == ({"n": 1}, {"n": 2}, None)


def test_a_torn_end_is_cut_off_wherever_it_is(tmp_path: Path) -> None:
    """Every prefix of a journal is one, with the entries that are whole in it."""
    whole = filled(tmp_path / "j.jsonl").read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(whole[:length])
        with Journal(path) as journal:
            assert len(journal) == sum(end <= length for end in ends[1:])
            journal.add("c", {"n": 3})
        with Journal(path) as journal:
            assert journal.get("c") == {"n": 3}
        path.unlink()


def test_an_entry_is_on_disk_at_once(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.add("a", {"n": 1})
        assert b'"a"' in path.read_bytes()


@pytest.mark.parametrize("line", [0, 1])
def test_damage_before_the_end_is_an_error(tmp_path: Path, line: int) -> None:
    path = filled(tmp_path / "j.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = b"#" + lines[line]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalInvalid, match=f"line {line + 1}"):
        Journal(path)
    assert path.read_bytes() == b"".join(lines)


def test_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no journal")
    with pytest.raises(JournalInvalid):
        Journal(path)
    assert path.read_text() == "no journal"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path), pytest.raises(JournalBusy):
        Journal(path)
    with Journal(path):
        pass
