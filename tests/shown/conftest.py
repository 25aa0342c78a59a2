"""A folder as one has it who follows the pages, and the programs that they call."""

from __future__ import annotations

import json
import runpy
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import torch
from PIL import Image

from vtp.samples.make_checkpoint import make_checkpoint
from vtp.samples.write_questions import write_questions

from .pages import ROOT, Words
from .smallest import BUNDLES

torch.set_num_threads(1)

_QUESTIONS, _SEED = 6, 61
_PLAN = {"vtp_plan": 1, "method": "fastervlm", "keep": [0.25]}
_RIVAL = """\
#!/bin/sh
while [ "$1" != "-o" ]; do shift; done
mkdir -p "$2" && echo graph > "$2/model.onnx"
"""


def _family(made_once: Any, family: str, target: str) -> Path:
    from vtp.export import ExportOptions, export_model

    model = made_once(f"shown-{family}-model", lambda out: make_checkpoint(family, "tiny", out))
    options = ExportOptions(targets=(target,))
    return Path(made_once(f"shown-{family}", lambda out: export_model(str(model), out, options)))


@pytest.fixture(scope="session")
def video_bundle(made_once: Any) -> Path:
    """A model that takes videos."""
    return _family(made_once, "video_llava", "ort")


@pytest.fixture(scope="session")
def qwen_bundle(made_once: Any) -> Path:
    """A model whose images have as many tokens as their size asks for."""
    return _family(made_once, "qwen2_vl", "onnx")


@pytest.fixture
def folder(
    tmp_path: Path, scene: Path, monkeypatch: pytest.MonkeyPatch, python_environment: dict[str, str]
) -> Path:
    """Where the commands run: pictures and questions lie there."""
    (tmp_path / "samples" / "images").mkdir(parents=True)
    for name in ("samples/images/scene.png", "scene.png", "photo.jpg"):
        with Image.open(scene) as picture:
            picture.convert("RGB").save(tmp_path / name)
    write_questions(tmp_path / "questions", _QUESTIONS, _SEED)
    (tmp_path / "plan.json").write_text(json.dumps(_PLAN))
    (tmp_path / "rival").write_text(_RIVAL)
    (tmp_path / "rival").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_environment["PYTHONPATH"])
    return tmp_path


@pytest.fixture
def clip(folder: Path) -> Path:
    """A second of video."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    path = folder / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(10):
            picture = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


class LayOut(Protocol):
    """Puts what a command names into the folder."""

    def __call__(self, words: Words) -> None: ...


@pytest.fixture
def lay_out(folder: Path, request: pytest.FixtureRequest) -> LayOut:
    """Bundles, models, a video and the docs, where a command names them."""

    def put(words: Words) -> None:
        models = {"shallow": "random_llava", "deep": "deep_llava"}
        for name in (word.rpartition("=")[2] for word in words):
            fixture = BUNDLES.get(name, models.get(name))
            if fixture is not None and not (folder / name).exists():
                shutil.copytree(request.getfixturevalue(fixture), folder / name)
            if name == "clip.mp4":
                request.getfixturevalue("clip")
            if name.startswith("docs/"):
                shutil.copytree(ROOT / "docs", folder / "docs")
                (folder / "export").symlink_to(ROOT / "export")

    return put


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Callable[[Words], None]:
    """``python``, in this process (importing torch takes seconds): a module, or a file."""

    def run(words: Words) -> None:
        if words[0] == "-m":
            name, arguments = words[1], words[2:]
            # A module that was imported before would run in a package that holds another of it.
            monkeypatch.delitem(sys.modules, name, raising=False)
        else:
            name, arguments = words[0], words[1:]
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        try:
            if words[0] == "-m":
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(name, run_name="__main__")
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{shlex.join(words)} ended with {end.code}")

    return run
