"""The wheel holds the package and nothing else; what pyproject.toml says is so."""

from __future__ import annotations

import email
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import vtp
from vtp.cli import main, main_export
from vtp.export.methods import method_class

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

DATA = ("samples/tiny_llava/", "samples/tiny_guide/", "samples/images/", "trt_plugins/kernels/")
UNSHIPPED = {"tests", "bench", "docs", "build", "out", "dist"}
TRAINING = "samples/training"
"""Scripts that made the sample models, which nobody needs to use them."""


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """pyproject.toml."""
    data: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return data


@pytest.fixture(scope="module")
def packages(project: dict[str, Any]) -> list[str]:
    """Folders of the listed packages, relative to the root."""
    listed: list[str] = project["tool"]["setuptools"]["packages"]
    return [name.removeprefix("vtp").removeprefix(".").replace(".", "/") for name in listed]


def test_extras_that_are_shown_exist(root: Path, project: dict[str, Any]) -> None:
    pages = [*root.glob("*.md"), *root.glob("docs/*.md"), root / "Makefile"]
    shown = re.findall(r"'[\w.-]+\[([\w,-]+)\]'", "".join(page.read_text() for page in pages))
    assert len(shown) > 5
    extras = set(project["project"]["optional-dependencies"])
    assert {name for one in shown for name in one.split(",")} <= extras


def test_addresses_are_those_of_the_papers(project: dict[str, Any]) -> None:
    urls = project["project"]["urls"]
    assert urls == {name: method_class(name.lower()).paper for name in urls}


def test_every_package_folder_is_listed(source_files: list[str], packages: list[str]) -> None:
    folders = {
        str(Path(name).parent).removeprefix(".")
        for name in source_files
        if Path(name).name == "__init__.py"
        and Path(name).parts[0] not in UNSHIPPED
        and not name.startswith(TRAINING)
    }
    assert sorted(packages) == sorted(folders)


def test_every_folder_with_python_is_a_package(
    source_files: list[str], packages: list[str]
) -> None:
    folders = {
        str(Path(name).parent).removeprefix(".")
        for name in source_files
        if name.endswith(".py")
        and not name.startswith((".", TRAINING))
        and Path(name).parts[0] not in UNSHIPPED
    }
    assert folders <= set(packages)


def test_the_version_stands_in_one_place(project: dict[str, Any]) -> None:
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vtp.__version__"}


def test_entry_points_exist(project: dict[str, Any]) -> None:
    assert project["project"]["scripts"] == {
        "vtp": f"{main.__module__}:{main.__name__}",
        "vtp-export": f"{main_export.__module__}:{main_export.__name__}",
    }


def test_install_lines_name_extras_that_exist(project: dict[str, Any], root: Path) -> None:
    extras = set(project["project"]["optional-dependencies"])
    for folder in ("commands", "export", "runtime", "."):
        for path in (root / folder).glob("*.py"):
            text = path.read_text(encoding="utf-8")
            for part in text.split("vtp-toolkit[")[1:]:
                name = part.partition("]")[0]
                assert "{" in name or set(name.split(",")) <= extras, path
            for part in text.split('require("')[1:]:
                assert part.partition('"')[0] in extras, path


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(
    wheel: Path, source_files: list[str], packages: list[str]
) -> None:
    wanted = {
        f"vtp/{name}"
        for name in source_files
        if (name.endswith(".py") and str(Path(name).parent).removeprefix(".") in packages)
        or name.startswith(DATA)
        or name == "py.typed"
    }
    with zipfile.ZipFile(wheel) as file:
        found = {name for name in file.namelist() if not name.endswith("/")}
        info = {name for name in found if ".dist-info/" in name}
        assert found - info == wanted
        for name in sorted(found - info):
            assert file.read(name) == (Path(vtp.__file__).parent / name[4:]).read_bytes(), name
    assert any(name.endswith("LICENSE") for name in info)
    assert {"vtp/samples/tiny_llava/model.safetensors", "vtp/py.typed"} <= found
    assert not [name for name in found if "test" in name or "bench" in name]


@pytest.mark.slow
def test_the_wheel_says_what_it_is(wheel: Path, project: dict[str, Any]) -> None:
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith("METADATA"))
        metadata = email.message_from_bytes(file.read(name))
        (name,) = (name for name in file.namelist() if name.endswith("entry_points.txt"))
        scripts = file.read(name).decode()
    assert metadata["Name"] == "vtp-toolkit"
    assert metadata["Version"] == vtp.__version__
    assert set(metadata.get_all("Provides-Extra", [])) == {
        *project["project"]["optional-dependencies"]
    }
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(base) == sorted(project["project"]["dependencies"])
    assert "vtp = vtp.cli:main\nvtp-export = vtp.cli:main_export" in scripts
