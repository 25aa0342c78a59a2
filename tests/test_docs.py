"""What the README and the docs say can be run, and what they point to exists."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("samples/*.md")])


def test_the_python_example_of_the_readme_runs(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tiny").symlink_to(tiny_bundle)
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert getattr(names["result"], "text", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_quoted_files_are_the_files() -> None:
    spec = importlib.util.spec_from_file_location("make_quotes", ROOT / "docs" / "make_quotes.py")
    assert spec is not None
    assert spec.loader is not None
    make_quotes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_quotes)
    quoting = [page for page in PAGES if "<!-- file:" in page.read_text()]
    assert quoting
    for page in quoting:
        text = page.read_text()
        assert make_quotes.filled(text) == text, "python docs/make_quotes.py"


def test_no_placeholder_was_left_in_the_pages() -> None:
    for page in PAGES:
        assert not re.search(r"<!-- (numbers|table) -->|TODO|FIXME|[A-Z]+_STEPS", page.read_text())


def test_the_readmes_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    assert {"demo", "test"} <= set(re.findall(r"make ([\w-]+)", readme)) <= targets
