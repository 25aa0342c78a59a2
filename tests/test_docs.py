"""What the pages point to exists, and the README's example in Python runs."""

from __future__ import annotations

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


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_headings_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", text):
        assert anchor in anchors(page.parent / target if target else page), f"{target}#{anchor}"


def test_the_map_of_the_code_names_what_exists() -> None:
    """Every path that the page on architecture names, in sentences, tables and diagrams."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    quoted = {code for code in re.findall(r"`([^`\n]+)`", text) if re.fullmatch(r"[\w./]+", code)}
    named = {code for code in quoted if code.endswith(("/", ".py"))}
    named |= set(re.findall(r"(?<![\w/])(?:export|runtime)/[\w./]*\w/?", text))
    assert len(named) > 40
    for path in sorted(named):
        place = ROOT / path
        assert place.is_dir() if path.endswith("/") else place.is_file(), path


@pytest.mark.parametrize("half", ["export", "runtime"])
def test_the_map_of_the_code_names_every_folder(half: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    folders = [path.parent.name for path in ROOT.glob(f"{half}/*/__init__.py")]
    assert folders
    for folder in folders:
        assert f"| `{half}/{folder}/` | " in text


def test_no_placeholder_was_left_in_the_pages() -> None:
    for page in PAGES:
        assert not re.search(r"<!-- (numbers|table) -->|TODO|FIXME|[A-Z]+_STEPS", page.read_text())
