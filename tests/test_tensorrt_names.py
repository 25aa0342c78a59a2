"""Every name that the package takes from TensorRT exists in all versions that it is for.

Neither TensorRT nor a GPU is needed: ``tensorrt_api`` holds the names of each version, recorded
from NVIDIA's own bindings by ``record.py``, and ``walker.py`` reads the sources. It knows what an
expression is by names: the module is always called ``trt``, and its objects as in ``OBJECTS``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from .tensorrt_api.walker import Use, uses

LISTS = Path(__file__).resolve().parent / "tensorrt_api"

# In modules that mention TensorRT: variable or field, with or without leading underscores -> class.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "runtime": "Runtime",
    "registry": "IPluginRegistry",
    "tensor": "ITensor",
    "layer": "ILayer",
}


@dataclass(frozen=True)
class Allowed:
    """Why a name may be used, unguarded, though some versions lack it."""

    versions: frozenset[str]
    """Those in which the use is reached; all have the name."""
    reason: str


ALLOWED: dict[str, Allowed] = {
    "ICudaEngine.create_runtime_config": Allowed(
        frozenset({"rtx-1.7"}), "used only where the library makes CUDA graphs by itself"
    ),
    "CudaGraphStrategy": Allowed(
        frozenset({"rtx-1.7"}), "used only where the library makes CUDA graphs by itself"
    ),
}

# Where TensorRT is used: if the walk finds nothing there, it has lost its way.
OWNERS = ("trt_plugins/plugin.py", "runtime/engines/tensorrt/")


@dataclass(frozen=True)
class Version:
    """The names of one version."""

    label: str
    members: Mapping[str, frozenset[str]]
    """Class -> its members; the module's own are under the empty word."""

    @classmethod
    def read(cls, file: Path) -> Version:
        """Read a recorded list."""
        data = json.loads(file.read_text(encoding="utf-8"))
        members = {name: frozenset(words.split()) for name, words in data["classes"].items()}
        top = frozenset(data["module"].split()) | {name for name in members if "." not in name}
        return cls(file.stem, members | {"": top})

    def lacks(self, name: str) -> str | None:
        """The shortest beginning of a dotted name that is not there; None if all of it is."""
        owner = ""
        for part in name.split("."):
            # A value, such as an enum's member, has no list; names like __version__ are everywhere.
            if owner not in self.members or part.startswith("__"):
                return None
            path = f"{owner}.{part}".lstrip(".")
            if part not in self.members[owner]:
                return path
            owner = path
        return None


VERSIONS = [Version.read(file) for file in sorted(LISTS.glob("*.json"))]
LABELS = {version.label for version in VERSIONS}


def problems(found: Mapping[str, Iterable[Use]], allowed: Mapping[str, Allowed]) -> list[str]:
    """A line for each use that some version cannot serve, and for each row that nothing needs."""
    lines, needed = [], set()
    for file, use in ((file, use) for file, all_uses in found.items() for use in all_uses):
        lacking = {version.label: version.lacks(use.name) for version in VERSIONS}
        nowhere = None not in lacking.values()  # a slip of the pen, which nothing excuses
        for name in sorted(set(lacking.values()) - {None}):
            labels = {label for label, lacked in lacking.items() if lacked == name}
            if not nowhere and name in use.guards:
                continue
            if not nowhere and name in allowed:
                needed.add(name)
                labels &= allowed[name].versions
            if labels:
                lines.append(f"{file}:{use.line}: trt.{name} is not in {', '.join(sorted(labels))}")
    return lines + [f"no use needs the row of {name}" for name in allowed if name not in needed]


def missing(source: str, **rows: set[str]) -> dict[str, set[str]]:
    """Name -> versions that lack it, of a snippet; rows name a builder flag and its versions."""
    allowed = {f"BuilderFlag.{name}": Allowed(frozenset(v), "") for name, v in rows.items()}
    lines = problems({"snippet": uses(source, OBJECTS)}, allowed)
    split = (line.partition(" is not in ") for line in lines)
    return {before.partition("trt.")[2]: set(after.split(", ")) for before, _, after in split}


@pytest.fixture(scope="module")
def found(root: Path, source_files: list[str]) -> dict[str, list[Use]]:
    """File -> what it uses, of all sources that are not tests."""
    files = [name for name in source_files if name.endswith(".py") and name[:6] != "tests/"]
    return {file: uses((root / file).read_text(encoding="utf-8"), OBJECTS) for file in files}


def test_names_exist_in_every_version(found: dict[str, list[Use]]) -> None:
    assert not problems(found, ALLOWED)


def test_the_walk_finds_what_the_owners_use(found: dict[str, list[Use]]) -> None:
    assert {"cli.py", "runtime/bundle/bundle.py", "bench/compare.py"} <= set(found)
    for owner in OWNERS:
        files = [file for file in found if file.startswith(owner)]
        assert not files or any(found[file] for file in files), owner


def test_the_tables_name_what_is_recorded() -> None:
    assert {"10.3", "10.13", "10.16", "11.4", "rtx-1.7"} == LABELS
    for version in VERSIONS:
        assert not {name for name in OBJECTS.values() if version.lacks(name)}
    for row in ALLOWED.values():
        assert row.reason
        assert set() < row.versions < LABELS


@pytest.mark.parametrize(
    "source",
    [
        "import tensorrt as trt\ntrt.Loger()",
        "import tensorrt\ntensorrt.Loger()",
        "import tensorrt_rtx as other\nother.Loger()",
        "from tensorrt import Loger",
        "import tensorrt.Loger as name",
        "def f(trt):\n    return trt.Loger",
        "def f(module):\n    module.trt.Loger.x",
        "class A:\n    def f(self):\n        self._trt.Loger.INFO()",
        "def f():\n    module = plan.trt\n    module.Loger",
        "def f(x: trt.Loger | None) -> None: ...",
        "class A(trt.Loger): ...",
        "getattr(trt, 'Loger')",
        "def f():\n    return getattr(trt, 'Loger', None)",
        "def f():\n    if hasattr(trt, 'Loger'):\n        trt.Loger()",
    ],
)
def test_a_missing_name_is_found_however_the_module_is_reached(source: str) -> None:
    assert missing(source) == {"Loger": LABELS}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("trt.Logger.WARN", "Logger.WARN"),
        ("trt.Logger.Severity.WARN", "Logger.Severity.WARN"),
        ("f(trt.Logger(trt.Logger.WARN).log)", "Logger.WARN"),
        ("trt.Logger(0).logs", "Logger.logs"),
        ("flags = trt.BuilderFlag; flags.TF33", "BuilderFlag.TF33"),
        ("self.log = trt.Logger(); self.log.logs()", "Logger.logs"),
        ("def f(x: trt.Dims3 | None):\n    x.sum()", "Dims3.sum"),
        ("from tensorrt import BuilderFlag as B\nB.TF33", "BuilderFlag.TF33"),
        ("config.set_flags(trt.BuilderFlag.TF32)", "IBuilderConfig.set_flags"),
        ("self._config.flag = 0; trt", "IBuilderConfig.flag"),
        ("plan.library.runtime.load(trt)", "Runtime.load"),
        ("context.execute_async(trt)", "IExecutionContext.execute_async"),
        ("with f(self.context.execute_v9) as trt: ...", "IExecutionContext.execute_v9"),
        ("registry = trt.get_plugin_registry()\nregistry.add()", "IPluginRegistry.add"),
        ("for layer in network:\n    layer.kind, trt", "ILayer.kind"),
        ("setattr(config, 'level', trt)", "IBuilderConfig.level"),
        ("getattr(trt.BuilderFlag, name)", "BuilderFlag.?"),
        ("def f(x):\n    getattr(trt.BuilderFlag, x.name, None)", "BuilderFlag.?"),
        ("from tensorrt import *", "*"),
    ],
)
def test_a_missing_member_is_found(line: str, name: str) -> None:
    assert missing(line) == {name: LABELS}


def test_names_that_exist_pass() -> None:
    source = """
import tensorrt as trt

class Engine:
    def __init__(self, runtime: trt.Runtime, plan: bytes) -> None:
        self._engine = runtime.deserialize_cuda_engine(plan)
        self.context = self._engine.create_execution_context()
        self.context.set_optimization_profile_async(0, 0)
        print(trt.__version__, trt.DataType.HALF.itemsize, trt.Logger.Severity.INFO, trt.float16)
"""
    found = {use.name for use in uses(source, OBJECTS)}
    assert {"Runtime", "Runtime.deserialize_cuda_engine", "DataType.HALF.itemsize"} <= found
    assert {"IExecutionContext.set_optimization_profile_async", "float16"} <= found
    assert not missing(source)


def test_variables_mean_nothing_where_tensorrt_is_not_mentioned() -> None:
    assert not uses("def f(config, engine):\n    config.hidden_size = engine.run", OBJECTS)


@pytest.mark.parametrize(
    "function",
    [
        "def f(options):\n    config = Options(options)\n    config.batch(trt)",
        "def f(config: Options):\n    config.batch(trt)",
        "def f(config: dict[str, Any] | None):\n    config.get(trt)",
    ],
)
def test_what_a_function_says_of_a_variable_counts_more_than_its_name(function: str) -> None:
    assert not missing(function)
    elsewhere = "def g(config: Any):\n    config.batch(trt)\n"
    assert missing(f"{elsewhere}{function}") == {"IBuilderConfig.batch": LABELS}


FP16 = "config.set_flag(trt.BuilderFlag.FP16)"
NEWER = {"11.4", "rtx-1.7"}


def test_a_name_that_newer_versions_removed_is_found() -> None:
    assert missing(FP16) == {"BuilderFlag.FP16": NEWER}


@pytest.mark.parametrize(
    "guard",
    [
        "if hasattr(trt.BuilderFlag, 'FP16'):\n        " + FP16,
        "flag = getattr(trt.BuilderFlag, 'FP16', None)",
        "def inner():\n        hasattr(trt.BuilderFlag, 'FP16') and " + FP16,
    ],
)
def test_a_guarded_name_passes(guard: str) -> None:
    assert not missing(f"def f(trt, config):\n    {guard}")


def test_a_guard_holds_for_its_function_and_its_name_only() -> None:
    guarded = f"def f(trt, config):\n    hasattr(trt.BuilderFlag, 'FP16') and {FP16}\n"
    assert missing(f"{guarded}def g(trt, config):\n    {FP16}") == {"BuilderFlag.FP16": NEWER}
    assert missing(f"{guarded}    trt.BuilderFlag.INT8") == {"BuilderFlag.INT8": NEWER}


def test_a_guarded_class_covers_its_members() -> None:
    guard = "if hasattr(trt, 'IInt8EntropyCalibrator2'):\n        "
    use = "trt.IInt8EntropyCalibrator2.get_batch_size"
    assert missing(use) == {"IInt8EntropyCalibrator2": NEWER}
    assert not missing(f"def f(trt):\n    {guard}{use}")


def test_a_row_allows_its_versions_only() -> None:
    assert not missing(FP16, FP16=LABELS - NEWER)
    assert missing(FP16, FP16=LABELS - {"rtx-1.7"}) == {"BuilderFlag.FP16": {"11.4"}}


def test_a_row_that_nothing_needs_is_found() -> None:
    row = {"BuilderFlag.FP16": Allowed(frozenset({"10.3"}), "")}
    guarded = f"def f(trt):\n    hasattr(trt.BuilderFlag, 'FP16') and {FP16}"
    for source in ("trt.BuilderFlag.TF32", guarded):
        lines = problems({"snippet": uses(source, OBJECTS)}, row)
        assert lines == ["no use needs the row of BuilderFlag.FP16"]
