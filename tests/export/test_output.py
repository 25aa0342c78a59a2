"""The output folder appears whole or not at all, and what was there is not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from vtp.errors import OutputExists
from vtp.export.output import replace_folder


def fill(folder: Path, text: str = "new") -> None:
    (folder / "manifest.json").write_text(text)


def test_a_new_folder_appears_with_its_parents(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b" / "bundle"
    with replace_folder(out, force=False) as work:
        fill(work)
        assert not out.exists()
    assert (out / "manifest.json").read_text() == "new"
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    assert out.stat().st_mode & 0o777 == 0o755


def test_a_failure_leaves_nothing_not_even_new_parents(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replace_folder(tmp_path / "a" / "b", False) as work:
        fill(work)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_stays_when_it_fails(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    with pytest.raises(ValueError, match="stop"), replace_folder(out, force=False) as work:
        fill(work)
        raise ValueError("stop")
    assert list(tmp_path.rglob("*")) == [out]
    with replace_folder(out, force=False) as work:
        fill(work)
    assert (out / "manifest.json").read_text() == "new"


def test_a_bundle_is_replaced_only_by_force(tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    fill(out, "old")
    with pytest.raises(OutputExists, match="--force"), replace_folder(out, force=False):
        pytest.fail("it must be refused before any work is done")
    with pytest.raises(ValueError, match="stop"), replace_folder(out, force=True) as work:
        fill(work)
        raise ValueError("stop")
    assert (out / "manifest.json").read_text() == "old"
    with replace_folder(out, force=True) as work:
        fill(work)
    assert (out / "manifest.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    out = tmp_path / "photos"
    out.mkdir()
    (out / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(OutputExists, match="not a bundle"), replace_folder(out, force=True):
        pytest.fail("it must be refused before any work is done")
    assert (out / "cat.jpg").read_bytes() == b"cat"
