"""Record the names that a version of TensorRT's Python module has, with no GPU and no TensorRT.

Usage, from the repository root (needs pip and gcc):

    python tests/tensorrt_api/record.py 10.3.0 10.13.3.9 10.16.1.11 11.4.0.106 rtx

A version number fetches the bindings wheel of that version; ``rtx`` reads the TensorRT-RTX that
is installed. Each makes one file beside this one, named by the first two numbers.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
BINDINGS = "tensorrt_cu12_bindings"  # the CUDA 13 bindings have the same names, but no 10.3
RTX = "tensorrt_rtx"

# The bindings load only if these libraries and C functions are there; no import calls them.
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
SYMBOLS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
# Loop variables and helpers that the module's own source leaves behind.
LEFTOVERS = {"attr", "value", "common_enter", "common_exit"}


def public(owner: object) -> dict[str, object]:
    """Public attributes, inherited ones included."""
    return {name: getattr(owner, name) for name in dir(owner) if not name.startswith("_")}


def names_of(module: ModuleType) -> dict[str, object]:
    """The record: words that the module has besides its classes, and those of each class."""
    found = {
        name: value
        for name, value in public(module).items()
        if name not in LEFTOVERS and not isinstance(value, ModuleType)
    }
    classes: dict[str, str] = {}
    waiting = {name: value for name, value in found.items() if isinstance(value, type)}
    while waiting:
        name, cls = waiting.popitem()
        classes[name] = " ".join(public(cls))
        waiting |= {
            f"{name}.{key}": value for key, value in public(cls).items() if isinstance(value, type)
        }
    return {
        "version": module.__version__,
        "module": " ".join(name for name in found if name not in classes),
        "classes": dict(sorted(classes.items())),
    }


def make_stubs(folder: Path, major: str) -> None:
    """Shared libraries with the names and the functions that the bindings ask for."""
    code = "\n".join(f"void {symbol}(void) {{}}" for symbol in SYMBOLS)
    for library in LIBRARIES:
        soname = f"lib{library}.so.{major}"
        gcc = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(folder / soname)]
        subprocess.run([*gcc, "-x", "c", "-"], input=code, text=True, check=True)


def unpack_bindings(folder: Path, version: str) -> None:
    """Fetch the wheel of the bindings for this Python and unpack it."""
    python = "{}.{}".format(*sys.version_info)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    which = ["--no-deps", "--only-binary=:all:", "--python-version", python, "--dest", str(folder)]
    subprocess.run([*pip, *which, f"{BINDINGS}=={version}"], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(folder)


def record(module: str, environment: Mapping[str, str] | None = None) -> dict[str, object]:
    """The record of a module, imported in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--names-of", module],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def main(arguments: list[str]) -> None:
    """Write one list for each argument."""
    if arguments[:1] == ["--names-of"]:
        print(json.dumps(names_of(importlib.import_module(arguments[1]))))
        return
    if not arguments:
        sys.exit(__doc__)
    for argument in arguments:
        if argument == "rtx":
            data, prefix = record(RTX), "rtx-"
        else:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                unpack_bindings(folder, argument)
                make_stubs(folder, argument.partition(".")[0])
                data = record("tensorrt_bindings", {"PYTHONPATH": name, "LD_LIBRARY_PATH": name})
            prefix = ""
        major, minor = str(data["version"]).split(".")[:2]
        target = HERE / f"{prefix}{major}.{minor}.json"
        target.write_text(json.dumps(data, indent=0) + "\n", encoding="utf-8")
        print(f"{target.name}: {data['version']}, {target.stat().st_size} bytes", file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
