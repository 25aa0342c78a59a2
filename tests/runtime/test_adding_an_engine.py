"""A new engine is one file and one row, as docs/adding-an-engine.md says: here is one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vtp
from vtp.runtime.engines import ENGINES, engine_class

NAME, ROW = "reference", "reference:ReferenceEngine"
MODULE = "vtp.runtime.engines.reference"


@pytest.fixture(scope="module")
def added(root: Path) -> Iterator[None]:
    """The file of the page, where it would lie in ``runtime/engines``, and its row."""
    spec = spec_from_file_location(MODULE, root / "docs" / "reference_engine.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, MODULE, module)
        spec.loader.exec_module(module)
        patch.setitem(ENGINES, NAME, ROW)
        yield


@pytest.fixture(scope="module")
def bundle(random_llava: Path, made_once: Any) -> Path:
    from vtp.export import ExportOptions, export_model

    options = ExportOptions(keep=0.25, targets=("ort", "trt10"))
    return Path(
        made_once("random-trt10", lambda out: export_model(str(random_llava), out, options))
    )


def test_its_class_is_found(added: None) -> None:
    cls = engine_class(NAME)
    assert cls.name == NAME
    assert cls.missing() is None


@pytest.mark.parametrize("keep", [1.0, 0.25])
def test_it_answers_as_onnx_runtime_does(added: None, bundle: Path, keep: float) -> None:
    image = Image.effect_mandelbrot((60, 40), (-2, -1, 1, 1), 20).convert("RGB")
    answers = []
    for engine in ("cpu", NAME):
        with vtp.load(bundle, engine, target="trt10") as pipeline:
            result = pipeline.generate(image, "what is it?", keep=keep, max_new_tokens=5)
            answers.append((result.tokens, [list(kept) for kept in result.kept]))
    assert answers[0] == answers[1]
    assert len(answers[0][0]) == 5


def test_it_is_listed_and_verifies_a_bundle(
    added: None, bundle: Path, vtp: Callable[..., Any]
) -> None:
    assert NAME in vtp("list", "engines").out
    verified = vtp("verify", bundle, "--engine", NAME)
    assert verified.status == 0, verified.err
    assert "language.0" in verified.out
