"""Every row of every table of names: it imports, knows its own name, and stands in its page."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

import vtp.runtime.engines
from vtp.cli import COMMANDS, command
from vtp.export.families import FAMILIES, make_family
from vtp.export.methods import METHODS, method_class
from vtp.export.methods.base import DecoderMethod, Method, VisionMethod
from vtp.export.methods.schedule import FreeSchedule
from vtp.export.scores import SCORES, score_class
from vtp.export.scores.base import Arriving, DropScore
from vtp.export.source.presets import PRESETS
from vtp.export.targets import TARGETS, make_target
from vtp.runtime.bundle.keep import ROUNDINGS
from vtp.runtime.bundle.plan import POSITIONS
from vtp.runtime.engines import ENGINES, engine_class
from vtp.runtime.engines.base import Engine

TABLES: dict[str, Mapping[str, object]] = {
    "methods": METHODS,
    "families": FAMILIES,
    "engines": ENGINES,
    "targets": TARGETS,
    "scores": SCORES,
    "presets": PRESETS,
}
PAGES = {
    "methods": "methods.md",
    "families": "models.md",
    "engines": "engines.md",
    "targets": "engines.md",
    "scores": "methods.md",
    "presets": "models.md",
}
"""Table -> the page in docs/ that has a row for each of its names."""
ROWS = [(table, name) for table, rows in TABLES.items() for name in rows]


def page(root: Path, name: str) -> str:
    """The text of a page in docs/."""
    return (root / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    cls = method_class(name)
    assert issubclass(cls, Method)
    assert cls.name == name
    assert cls.summary
    assert cls().parameters() is not None
    assert cls().positions in POSITIONS
    for preset in cls.presets.values():
        assert cls(**preset).parameters().keys() >= preset.keys()
    if issubclass(cls, VisionMethod):
        assert 0 < cls.default_keep <= 1
        assert cls.rounding in ROUNDINGS
    if issubclass(cls, DecoderMethod) and cls is not FreeSchedule:
        assert all(drop.score in SCORES for drop in cls().drops(32))


@pytest.mark.parametrize("name", SCORES)
def test_scores(name: str) -> None:
    cls = score_class(name)
    assert issubclass(cls, DropScore)
    assert cls.name == name
    assert cls.summary
    assert set(cls.inputs) <= {field.name for field in fields(Arriving)}


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    assert make_family(name).name == name


KNOW_FAMILIES = ("families", "processors", "presets.py", "originals.py")
"""Files of ``export`` that may name one: families, readers of processors, names of repositories."""


def test_nothing_else_knows_a_family(root: Path) -> None:
    words = (*FAMILIES, "qwen", "onevision")
    offenders = []
    for room in ("export", "runtime", "calibration", "trt_plugins"):
        for path in (root / room).rglob("*.py"):
            if not set(path.parts) & set(KNOW_FAMILIES):
                named = [text for text in spelled(path) if any(w in text.lower() for w in words)]
                offenders += [f"{path.relative_to(root)}: {text!r}" for text in named]
    assert not offenders


def spelled(path: Path) -> Iterator[str]:
    """Names and texts in a file, without comments and docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documented:
                yield node.value
        elif isinstance(node, ast.Name | ast.Attribute | ast.ClassDef | ast.FunctionDef):
            yield getattr(node, "id", getattr(node, "attr", getattr(node, "name", "")))


@pytest.mark.parametrize("name", ENGINES)
def test_engines(name: str) -> None:
    cls = engine_class(name)
    assert issubclass(cls, Engine)
    assert cls.name == name
    assert cls.summary
    assert set(cls.targets) <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_targets(name: str) -> None:
    target = make_target(name)
    assert target.name == name
    assert any(name in engine_class(engine).targets for engine in ENGINES)


@pytest.mark.parametrize("name", PRESETS)
def test_presets(name: str) -> None:
    preset = PRESETS[name]
    assert preset.summary
    folder = Path(preset.source)
    assert (folder / "config.json").is_file() or preset.source.count("/") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(name: str, root: Path) -> None:
    assert command(name).name == name
    assert f"vtp {name}" in page(root, "getting-started.md")


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_every_name_stands_in_its_page(root: Path, table: str, name: str) -> None:
    assert f"`{name}`" in page(root, PAGES[table])


def test_the_readme_leads_to_every_page(root: Path) -> None:
    readme = (root / "README.md").read_text(encoding="utf-8")
    for path in root.glob("docs/*.md"):
        assert f"](docs/{path.name})" in readme, path.name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_row_with_its_paper(root: Path, name: str) -> None:
    _, found, after = page(root, "methods.md").partition("## All methods\n")
    assert found
    (row,) = (
        line
        for line in after.partition("\n## ")[0].splitlines()
        if line.startswith(f"| `{name}` |")
    )
    paper = method_class(name).paper
    assert paper is None or paper in row


@pytest.mark.parametrize("table", ["methods", "scores", "families", "targets"])
def test_every_file_of_a_table_is_a_row(root: Path, table: str) -> None:
    """A file without a row would never be found."""
    modules = {str(row).partition(":")[0] for row in TABLES[table].values()}
    files = {path.stem for path in (root / "export" / table).glob("*.py")}
    assert files - {"__init__", "base"} == modules


def test_every_engine_is_a_row() -> None:
    """Every class of an engine that can be made, wherever in the folder it is."""
    rows = {engine_class(name) for name in ENGINES}
    named = {f"{cls.__module__}:{cls.__qualname__}" for cls in rows}
    folder = "vtp.runtime.engines."
    todo, found = [Engine], set()
    for name in pkgutil.walk_packages(vtp.runtime.engines.__path__, folder):
        importlib.import_module(name.name)
    while todo:
        for cls in todo.pop().__subclasses__():
            todo.append(cls)
            if cls.__module__.startswith(folder):
                found.add(f"{cls.__module__}:{cls.__qualname__}")
    assert found == named
