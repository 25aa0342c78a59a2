"""Fixtures that many tests share: models, bundles, the command line, the wheel."""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import pytest

from .tiers import is_extended, unmatched

# The same examples in every run; to look for new ones: VTP_HYPOTHESIS=explore make test
hypothesis.settings.register_profile("vtp", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=500)
hypothesis.settings.load_profile(os.environ.get("VTP_HYPOTHESIS", "vtp"))

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "samples" / "tiny_llava"

_PACKAGES = ("numpy", "torch", "transformers", "onnx", "onnxruntime")
_COPIED = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
_RANDOM_SIDE = 32


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what ``make test`` leaves out; see ``tests/tiers.py``."""
    names = [item.nodeid for item in items]
    for item in items:
        if is_extended(item.nodeid):
            item.add_marker("extended")
    if not config.option.file_or_dir and (left := unmatched(names)):
        raise pytest.UsageError(f"tests/tiers.py has patterns without a test: {', '.join(left)}")


def pytest_report_header() -> list[str]:
    """Versions and providers that the results depend on."""
    versions = [f"python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{package} missing")
    try:
        import onnxruntime
    except ImportError:
        return [", ".join(versions)]
    return [", ".join(versions), f"providers: {', '.join(onnxruntime.get_available_providers())}"]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    out: str
    err: str

    def error(self) -> str:
        """The message of the one ``Error:`` line, which must be the last line of stderr."""
        lines = self.err.splitlines()
        errors = [line for line in lines if line.startswith("Error: ")]
        assert len(errors) == 1, f"{len(errors)} Error lines in:\n{self.err}"
        assert lines[-1] == errors[0]
        assert "Traceback" not in self.err
        assert self.status == 1
        return errors[0].removeprefix("Error: ")


class MadeOnce(Protocol):
    """Gives a folder by its name, made by a function where it does not exist yet."""

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path: ...


class Command(Protocol):
    """Calls the command ``vtp`` with arguments."""

    def __call__(self, *arguments: str | Path) -> Outcome: ...


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository, which is also the package."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_llava() -> Path:
    """The sample model's Hugging Face folder."""
    return TINY


@pytest.fixture(scope="session")
def scene() -> Path:
    """The picture of the examples."""
    return ROOT / "samples" / "images" / "scene.png"


@pytest.fixture
def vtp(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The entry point ``vtp``, called in this process (importing torch takes seconds)."""
    from vtp.cli import main

    return _in_process("vtp", main, monkeypatch, capfd)


@pytest.fixture
def vtp_export(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The entry point ``vtp-export``, called in this process."""
    from vtp.cli import main_export

    return _in_process("vtp-export", main_export, monkeypatch, capfd)


def _in_process(
    name: str,
    entry: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Command:
    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        before = signal.getsignal(signal.SIGTERM)
        capfd.readouterr()
        status: object = 0
        try:
            entry()
        except SystemExit as exit_:
            status = exit_.code or 0
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        if isinstance(status, str):  # what the interpreter does with sys.exit("text")
            return Outcome(1, out, f"{err}{status}\n")
        assert isinstance(status, int)
        return Outcome(status, out, err)

    return call


class StartCommand(Protocol):
    """Starts a command in a process of its own."""

    def __call__(
        self, *arguments: str | Path, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]: ...


def _default_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def start_python() -> Iterator[StartCommand]:
    """This Python in a process of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=child_environment() | (env or {}),
            # Where the tests run in the background, SIGINT comes down to them ignored.
            preexec_fn=_default_interrupt,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def start_vtp(start_python: StartCommand) -> StartCommand:
    """``python -m vtp`` in a process of its own, which ends with the test."""
    return partial(start_python, "-m", "vtp")


@pytest.fixture
def vtp_process(start_vtp: StartCommand) -> Command:
    """``python -m vtp`` in a process of its own, waited for."""

    def call(*arguments: str | Path) -> Outcome:
        process = start_vtp(*arguments)
        out, err = process.communicate(timeout=300)
        return Outcome(process.returncode, out, err)

    return call


def child_environment() -> dict[str, str]:
    """This environment, in which ``import vtp`` finds the package that is being tested."""
    import vtp

    found = str(Path(vtp.__file__).parent.parent)
    paths = [found, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@pytest.fixture(scope="session")
def python_environment() -> dict[str, str]:
    """See ``child_environment``."""
    return child_environment()


class RunScript(Protocol):
    """Runs lines of Python in a process of their own, and fails where they do."""

    def __call__(self, script: str) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def run_script(python_environment: dict[str, str]) -> RunScript:
    """Lines of Python in a fresh process that finds the package being tested."""

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env=python_environment,
        )

    return run


@pytest.fixture(scope="session", autouse=True)
def traces(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A graph that several tests export is traced once in a run; not with ``VTP_TRACE_CACHE=``."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ.setdefault("VTP_TRACE_CACHE", str(shared / "traces"))


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What lives on between modules, such as imports and caches, is for no collection to look at:
    they took an eighth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_registry() -> Iterator[None]:
    """torch builds its table of ONNX operators anew for every graph; here once for all tests.

    It is only read. (Not done outside of tests: see docs/decisions/0026.)
    """
    try:
        from torch.onnx._internal.exporter._registration import ONNXRegistry
    except ImportError:
        yield
        return
    usual = ONNXRegistry.from_torchlib
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(usual)))
        yield


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Folders that all test processes share: the first that asks makes it, the others wait."""
    from filelock import FileLock

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    shared.mkdir(exist_ok=True)

    def get(name: str, make: Callable[[Path], object]) -> Path:
        folder = shared / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = folder.with_name(f"{name}.part")
                shutil.rmtree(unfinished, ignore_errors=True)
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return get


@pytest.fixture(scope="session")
def tiny_bundle(made_once: MadeOnce) -> Path:
    """The sample model, exported at keep 0.1; copy it before changing anything."""
    return made_once("tiny-bundle", lambda out: _export("tiny", out, keep=0.1))


@pytest.fixture(scope="session")
def random_llava(made_once: MadeOnce) -> Path:
    """A Hugging Face LLaVA of random weights: 16 image tokens, a context of 128 tokens."""
    return made_once("random_llava", _make_random_llava)


@pytest.fixture(scope="session")
def deep_llava(made_once: MadeOnce) -> Path:
    """As ``random_llava``, with four language layers in the place of two."""
    return made_once("deep_llava", lambda folder: _make_random_llava(folder, layers=4))


def _make_random_llava(folder: Path, layers: int = 2) -> None:
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    sample = json.loads((TINY / "config.json").read_text())
    ends = {key: sample[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=_RANDOM_SIDE,
            patch_size=8,
            projection_dim=32,
        ),
        text_config=LlamaConfig(
            vocab_size=sample["text_config"]["vocab_size"],
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            **ends,
        ),
        image_token_index=sample["image_token_index"],
        image_seq_length=(_RANDOM_SIDE // 8) ** 2,
        tie_word_embeddings=False,
        **ends,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlavaForConditionalGeneration(config).save_pretrained(folder)
    for name in _COPIED:
        shutil.copy(TINY / name, folder / name)
    seen = json.loads((TINY / "preprocessor_config.json").read_text())
    seen |= {
        "size": {"shortest_edge": _RANDOM_SIDE},
        "crop_size": {"height": _RANDOM_SIDE, "width": _RANDOM_SIDE},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(seen))


@pytest.fixture(scope="session")
def random_bundle(random_llava: Path, made_once: MadeOnce) -> Path:
    """``random_llava``, exported at keep 0.1; copy it before changing anything."""
    return made_once("random-bundle", lambda out: _export(str(random_llava), out, keep=0.1))


@pytest.fixture(scope="session")
def sgl_bundle(made_once: MadeOnce) -> Path:
    """The sample model, led by a guide; target ``ort`` only."""
    options = {"method": "sgl", "targets": ("ort",)}
    return made_once("tiny-sgl-ort", lambda out: _export("tiny", out, **options))


@pytest.fixture(scope="session")
def guide_bundle(made_once: MadeOnce) -> Path:
    """The smaller sample model as a guide; target ``ort`` only."""
    options = {"method": "guide", "targets": ("ort",)}
    return made_once("tiny-guide-ort", lambda out: _export("tiny-guide", out, **options))


@pytest.fixture(scope="session")
def search_bundle(made_once: MadeOnce) -> Path:
    """The sample model with a drop before each layer but the first; target ``ort`` only."""
    stages = tuple(f"{layer}:1.0:attention" for layer in (1, 2, 3))
    options = {"stages": stages, "targets": ("ort",)}
    return made_once("tiny-search", lambda out: _export("tiny", out, **options))


def _export(model: str, out: Path, **options: Any) -> None:
    from vtp.export import ExportOptions, export_model

    export_model(model, out, ExportOptions(**options))


@pytest.fixture(scope="session")
def source_files() -> list[str]:
    """Every file of the repository that git does not ignore, as paths relative to it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip(f"this is no git checkout: {listed.stderr.decode().strip()}")
    names = listed.stdout.decode().split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


@pytest.fixture(scope="session")
def package_index() -> None:
    """Skips where pip cannot install from its package index."""
    answer = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--no-deps",
            "--quiet",
            "setuptools>=77",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        pytest.skip(f"pip reaches no package index: {answer.stderr.strip().splitlines()[-1:]}")


@pytest.fixture(scope="session")
def wheel(
    package_index: None, source_files: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The wheel, built from a copy of the sources, so that no build folder stays behind."""
    sources = tmp_path_factory.mktemp("sources")
    for name in source_files:
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    out = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(sources)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    assert zipfile.is_zipfile(path)
    return path


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Copies a bundle or model folder to where a test may damage it."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / "copies" / folder.name))

    return copy


@pytest.fixture
def edit_json() -> Callable[[Path, Callable[[Any], Any]], None]:
    """Rewrites a JSON file through a function, which may change its argument in place."""

    def edit(path: Path, change: Callable[[Any], Any]) -> None:
        data = json.loads(path.read_text(encoding="utf-8"))
        changed = change(data)
        path.write_text(json.dumps(data if changed is None else changed), encoding="utf-8")

    return edit
