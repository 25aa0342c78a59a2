"""Who may import what: the runtime stays light, arrows point downward, imports are relative."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What `import vtp.runtime` may bring: its three packages, and what tokenizers brings.
ALLOWED = {"vtp", "numpy", "PIL", "tokenizers", "huggingface_hub", "yaml", "tqdm", "packaging"}
HEAVY = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors", "jinja2"}
ENGINES = {"onnxruntime", "tensorrt", "cuda", "cupy"}
INTERFACE = {"click", "rich"}

# Folder -> folders of the package that it may import besides itself, errors/ and registry.py.
MAY_IMPORT = {
    "trt_plugins": set(),
    "runtime": {"trt_plugins"},
    "export": {"runtime", "trt_plugins", "samples"},
    "calibration": {"export", "runtime", "trt_plugins"},
    "commands": {"export", "runtime", "trt_plugins", "calibration", "packages"},
}

FOLDERS = {"export", "runtime", "commands", "calibration", "trt_plugins", "samples", "bench"}


def python_files() -> list[str]:
    """Python files of the repository but tests and those of hidden folders."""
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*.py"))
    skipped = {"tests", "docs", "build", "out", "dist"}
    return sorted(
        str(path)
        for path in found
        if path.parts[0] not in skipped and not any(part.startswith(".") for part in path.parts)
    )


FILES = python_files()


def imports(file: str, *, lazy: bool) -> Iterator[tuple[str, int]]:
    """``(dotted name, level)`` of every import; without ``lazy`` those run at import only."""

    def walk(node: ast.AST) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, 0) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                names = [base] if base else [alias.name for alias in child.names]
                yield from ((name, child.level) for name in names)
            else:
                function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
                typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
                if not typing and (lazy or not function):
                    yield from walk(child)

    yield from walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))


def inner(file: str) -> set[str]:
    """Folders and files at the root of the package that a file imports, lazily or not."""
    here = Path(file).parent.parts
    found = set()
    for name, level in imports(file, lazy=True):
        if level:
            path = (*here[: len(here) - (level - 1)], *filter(None, name.split(".")))
            found.add(path[0])
        elif name.split(".")[0] == "vtp":
            found.add((*name.split("."), "__init__")[1])
    return found


def test_the_files_are_found() -> None:
    assert {
        "cli.py",
        "errors/base.py",
        "runtime/bundle/bundle.py",
        "export/families/llava.py",
    } <= set(FILES)


def test_importing_the_runtime_brings_few_packages(run_script: Any) -> None:
    script = (
        "import sys, json; before = set(sys.modules); import vtp.runtime\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(json.dumps(sorted(names - sys.stdlib_module_names)))"
    )
    out = run_script(script).stdout
    found = {name for name in json.loads(out) if not name.startswith("_")}
    assert found <= ALLOWED, found - ALLOWED
    assert {"vtp", "numpy", "PIL", "tokenizers"} <= found


def test_importing_vtp_brings_nothing(run_script: Any) -> None:
    script = (
        "import sys, vtp, vtp.cli, vtp.errors\n"
        "print('numpy' in sys.modules, 'click' in sys.modules)"
    )
    out = run_script(script).stdout
    assert out.split() == ["False", "False"]


def test_help_and_list_do_not_import_the_heavy_packages(run_script: Any) -> None:
    for arguments in (["--help"], ["export", "--help"], ["list", "engines"], ["list", "presets"]):
        script = (
            "import sys; sys.argv[1:] = " + repr(arguments) + "\n"
            "import vtp.cli\n"
            "try: vtp.cli.main()\nexcept SystemExit: pass\n"
            "print({'torch', 'transformers', 'onnx'} & set(sys.modules), file=sys.stderr)"
        )
        found = run_script(script)
        assert found.stderr.strip() == "set()", arguments


def test_calibration_needs_no_torch(run_script: Any) -> None:
    names = [
        ".".join(("vtp", *Path(file).with_suffix("").parts))
        for file in FILES
        if file.startswith("calibration/")
    ]
    assert "vtp.calibration.quantize" in names
    script = (
        f"import sys, importlib\nfor name in {names}: importlib.import_module(name)\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    out = run_script(script).stdout
    assert out.strip() == "set()"


def test_arrows_point_downward() -> None:
    offenders = {}
    for file in FILES:
        folder = Path(file).parts[0]
        if folder in MAY_IMPORT:
            allowed = MAY_IMPORT[folder] | {folder, "errors", "registry"}
            allowed |= {"__version__"} if folder == "export" else set()
            offenders[file] = inner(file) - allowed
    assert len(offenders) > 100
    assert not {file: found for file, found in offenders.items() if found}


def test_trt_plugins_import_numpy_only() -> None:
    for file in (each for each in FILES if each.startswith("trt_plugins/")):
        outside = {name.partition(".")[0] for name, level in imports(file, lazy=False) if not level}
        assert outside - sys.stdlib_module_names <= {"numpy"}, file


def test_heavy_packages_are_imported_where_they_belong() -> None:
    for file in FILES:
        folder = Path(file).parts[0]
        everywhere, at_import = (
            {name.partition(".")[0] for name, level in imports(file, lazy=lazy) if not level}
            for lazy in (True, False)
        )
        if file == "runtime/engines/tensorrt/graphs.py":
            # Engines are built on the device, from graph files.
            assert everywhere & HEAVY == {"onnx"}
            assert not at_import & HEAVY
        elif folder not in ("export", "samples", "bench"):
            assert not everywhere & HEAVY, file
        if folder != "bench":
            # An engine is imported by the class that owns it.
            assert not at_import & ENGINES, file
        if folder not in ("commands", "bench", "samples"):
            assert not at_import & INTERFACE, file


def test_imports_within_the_package_are_relative() -> None:
    for file in FILES:
        folder = Path(file).parts[0]
        absolute = [name for name, level in imports(file, lazy=True) if not level]
        tops = {name.partition(".")[0] for name in absolute}
        # Would load a second copy of a module, wherever the repository is on the path.
        assert not tops & (FOLDERS | {"cli", "errors", "packages", "registry"}), file
        if folder not in ("samples", "bench"):
            assert "vtp" not in tops, file


@pytest.mark.parametrize("floor", ["export", "runtime", "runtime/engines"])
def test_no_circles_between_rooms(floor: str) -> None:
    """Folders of a floor import each other in one direction only; a file beside them is a room."""
    arrows: dict[str, set[str]] = {}
    depth = len(Path(floor).parts)
    for file in (each for each in FILES if each.startswith(floor + "/")):
        room = room_of(Path(file), depth)
        for target in targets(file):
            if target.parts[:depth] == Path(floor).parts and len(target.parts) > depth:
                arrows.setdefault(room, set()).add(room_of(target, depth))
    for room in arrows:
        found: set[str] = set()
        todo = set(arrows[room]) - {room}
        while todo:
            found.add(step := todo.pop())
            todo |= arrows.get(step, set()) - found - {step}
        assert room not in found, f"{room} imports what imports it"


def room_of(path: Path, depth: int) -> str:
    """The folder below a floor that a file or package is in, or the file itself."""
    return path.with_suffix("").parts[depth]


def targets(file: str) -> Iterator[Path]:
    """Modules of the package that a file imports, as paths without suffix."""
    here = Path(file).parent.parts
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = Path(*here[: len(here) - (node.level - 1)], *(node.module or "").split("."))
            inner = [base / alias.name for alias in node.names]
            known = [one for one in inner if (ROOT / one).is_dir() or named(one).exists()]
            yield from known or [base]


def named(module: Path) -> Path:
    """The file of a module."""
    return ROOT / module.with_name(module.name + ".py")
