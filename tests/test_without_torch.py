"""The installed wheel, in virtual environments that have no torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


class Environment:
    """A virtual environment with the wheel in it."""

    def __init__(self, folder: Path, wheel: Path, extras: str) -> None:
        self.folder = folder
        self.cwd = folder.parent
        # What is not in the environment must not be found elsewhere.
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        made = (sys.executable, "-m", "venv", "--without-pip", folder)
        subprocess.run(made, check=True, env=self.env)
        # Compiled are the modules that a test imports, when it does.
        pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install")
        options = ("--quiet", "--no-compile", "--disable-pip-version-check")
        subprocess.run([*pip, *options, f"{wheel}{extras}"], check=True, env=self.env)

    def run(
        self, name: str, *arguments: str | Path, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment."""
        done = subprocess.run(
            [self.folder / "bin" / name, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=self.env,
            cwd=self.cwd,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert not check or done.returncode == 0, done.stderr
        return done

    def packages(self) -> set[str]:
        """Names of what is installed."""
        script = "from importlib.metadata import distributions\n"
        script += "print(*(found.metadata['Name'] for found in distributions()))"
        return set(self.run("python", "-c", script, check=True).stdout.split())


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What the README says to install on a device."""
    return Environment(tmp_path_factory.mktemp("device") / "venv", wheel, "[cpu,cli]")


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Without any extra."""
    return Environment(tmp_path_factory.mktemp("bare") / "venv", wheel, "")


def modules(wheel: Path, *folders: str) -> list[str]:
    """Dotted names of the modules in folders of the wheel."""
    with zipfile.ZipFile(wheel) as file:
        names = [name for name in file.namelist() if name.endswith(".py")]
    chosen = [name for name in names if name.startswith(tuple(f"vtp/{f}" for f in folders))]
    return [name[:-3].replace("/", ".").removesuffix(".__init__") for name in chosen]


def test_a_device_needs_neither_torch_nor_what_belongs_to_it(device: Environment) -> None:
    heavy = {"torch", "transformers", "onnx", "onnxscript", "onnx-ir", "safetensors"}
    assert not device.packages() & heavy
    assert {"vtp-toolkit", "numpy", "onnxruntime", "tokenizers"} <= device.packages()


def test_every_module_of_the_runtime_imports(device: Environment, wheel: Path) -> None:
    folders = ("calibration/", "runtime/", "commands/", "trt_plugins/", "cli", "errors", "packages")
    # What writes graphs needs onnx, and says so when it is asked to.
    names = [name for name in modules(wheel, *folders) if name != "vtp.calibration.quantize"]
    assert "vtp.runtime.engines.onnxruntime.cpu" in names
    script = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    device.run("python", "-c", script, check=True)


COMMANDS = ["", "export", "run", "inspect", "verify", "profile", "calibrate", "list", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_works(device: Environment, command: str) -> None:
    done = device.run("vtp", *filter(None, [command]), "--help", check=True)
    assert "Example:" in done.stdout


def test_list_works(device: Environment) -> None:
    data = json.loads(device.run("vtp", "list", "--format", "json", check=True).stdout)
    assert {"method": "fastervlm"} in data["methods"]
    assert [row["runs here"] for row in data["engines"] if row["engine"] == "cpu"] == ["yes"]


def test_doctor_works(device: Environment) -> None:
    told = json.loads(device.run("vtp", "doctor", "--format", "json", check=True).stdout)
    packages = {row["package"]: row for row in told["packages"]}
    assert packages["torch"]["install"] == "pip install 'vtp-toolkit[export]'"
    assert {row["preset"] for row in told["models"]} >= {"llava15", "qwen2.5-vl-7b"}


def test_quantize_says_what_it_needs(device: Environment, tiny_bundle: Path) -> None:
    asked = ("--data", "no.jsonl", "--out", "out")
    done = device.run("vtp", "calibrate", "quantize", tiny_bundle, *asked)
    assert done.returncode == 1
    assert "vtp-toolkit[export]" in done.stderr.splitlines()[-1]


def test_inspect_and_verify_work(device: Environment, tiny_bundle: Path) -> None:
    shown = device.run("vtp", "inspect", tiny_bundle, "--format", "json", check=True)
    assert {row["state"] for row in json.loads(shown.stdout)["files"]} == {"intact"}
    rows: Any
    replayed = device.run("vtp", "verify", tiny_bundle, "--format", "json", check=True)
    (rows,) = json.loads(replayed.stdout).values()
    assert {row["target"] for row in rows} == {"ort", "onnx"}


def test_profile_measures(device: Environment, tiny_bundle: Path) -> None:
    short = ("--repeat", "1", "--warmup", "1", "--new-tokens", "2", "--keep", "0.1")
    page = device.cwd / "profile.html"
    done = device.run(
        "vtp", "profile", tiny_bundle, *short, "--format", "json", "--html", page, check=True
    )
    assert [row["keep"] for row in json.loads(done.stdout)["keeps"]] == ["1.0", "0.1"]
    assert "</html>" in page.read_text(encoding="utf-8")


def test_run_answers(device: Environment, tiny_bundle: Path, scene: Path) -> None:
    question = ("--image", scene, "--prompt", "what number is shown?", "--format", "json")
    kept = device.cwd / "kept.png"
    done = device.run("vtp", "run", tiny_bundle, *question, "--save-overlay", kept, check=True)
    answer = json.loads(done.stdout)
    assert (answer["image_tokens"], answer["image_tokens_before"]) == (26, 256)
    assert answer["tokens"]
    assert kept.is_file()


def test_calibrate_keep_works(device: Environment, tiny_bundle: Path) -> None:
    device.run(
        "python",
        "-m",
        "vtp.samples.write_questions",
        "--out",
        "questions",
        "--count",
        "3",
        check=True,
    )
    asked = ("--data", "questions/questions.jsonl", "--keep", "0.2", "--max-drop", "100")
    done = device.run("vtp", "calibrate", "keep", tiny_bundle, *asked, "--dry-run", check=True)
    assert "chosen" in done.stdout
    assert (device.cwd / "questions" / "questions-calibration" / "keep.svg").is_file()


@pytest.mark.parametrize("command", [("vtp", "export"), ("vtp-export",)])
def test_export_says_how_to_install_its_extra(
    device: Environment, command: tuple[str, ...]
) -> None:
    done = device.run(*command, "tiny", "--out", device.cwd / "never")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: vtp export needs the package 'torch'")
    assert "pip install 'vtp-toolkit[export]'" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (device.cwd / "never").exists()


def test_without_extras_the_runtime_imports(bare: Environment, wheel: Path) -> None:
    assert not bare.packages() & {"onnxruntime", "rich", "torch"}
    names = modules(wheel, "runtime/", "trt_plugins/", "cli", "errors", "packages")
    script = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    bare.run("python", "-c", script, check=True)


def test_without_extras_the_command_says_how_to_install_it(bare: Environment) -> None:
    for name in ("vtp", "vtp-export"):
        done = bare.run(name, "--help")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"Error: the command {name} needs the package ")
        assert "pip install 'vtp-toolkit[cli]'" in done.stderr
        assert done.stderr.count("\n") == 1


def test_without_an_engine_load_says_how_to_install_one(
    bare: Environment, tiny_bundle: Path
) -> None:
    script = (
        f"import vtp, vtp.errors\ntry: vtp.load({str(tiny_bundle)!r})\n"
        "except vtp.errors.EngineUnavailable as error: print(error)"
    )
    out = bare.run("python", "-c", script, check=True).stdout
    assert "pip install 'vtp-toolkit[cpu]'" in out
