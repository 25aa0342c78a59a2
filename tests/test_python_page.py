"""Every block of docs/python.md runs, in its order, with the sample model's bundle."""

from __future__ import annotations

import builtins
import re
from dataclasses import fields
from pathlib import Path

import pytest

import vtp

from .test_docs import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_the_blocks_of_the_page_run(
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiny").symlink_to(tiny_bundle)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL))
    assert len(blocks) >= 12
    for block in blocks:
        # Errors name the line of the page.
        lines = PAGE.read_text()[: block.start(1)].count("\n")
        exec(compile("\n" * lines + block[1], str(PAGE), "exec"), names)
    out = capsys.readouterr().out
    assert "the image: nowhere.png cannot be read as an image" in out
    assert "does not support videos" in out
    assert "the pipeline has been closed" in out


def test_the_page_names_every_setting_and_field() -> None:
    text = PAGE.read_text()
    for field in (*fields(vtp.Settings), *fields(vtp.Result)):
        assert f"`{field.name}`" in text, field.name


def test_the_page_names_only_errors_that_exist() -> None:
    kinds = "Error|Invalid|Swapped|Outdated|Repeated|Closed"
    for name in re.findall(rf"`(\w+(?:{kinds}))`", PAGE.read_text()):
        assert hasattr(vtp.errors, name) or hasattr(builtins, name), name
