"""The check beside Hugging Face transformers, with a small model and stand-ins for the device."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from vtp.bench.gpu import transformers
from vtp.bench.gpu.skip import Skip
from vtp.export.source.presets import TINY

from .stand_in_device import put_in_torchs_place

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(device: None, random_llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model in the place of a real one, and one that no memory holds."""

    def make(folder: Path, decoder: object) -> Path:
        shutil.copytree(random_llava, folder)
        shutil.copy(TINY / "processor_config.json", folder)
        return folder

    sizes = (
        transformers._Size("small", {}, "float32", 0.0),
        transformers._Size("huge", {}, "float16", 1e18),
    )
    monkeypatch.setattr(transformers, "_SIZES", sizes)
    monkeypatch.setattr(transformers, "make_real_model", make)
    monkeypatch.setattr(transformers, "_REPEAT", 1)
    monkeypatch.setattr(transformers, "_STEPS", 3)


def test_every_engine_beside_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export = transformers._exported

    def exported(size: Any, work: Path) -> tuple[Path, Path]:
        made = export(size, work)
        # Not before: tracing would ask for the device.
        put_in_torchs_place(monkeypatch)
        return made

    monkeypatch.setattr(transformers, "_exported", exported)
    found = transformers.run(tmp_path, None)
    names = [row["engine"] for row in found["rows"]]
    keeps = len(transformers.KEEPS)
    assert names == ["Hugging Face transformers", *["tensorrt (tensorrt-native)"] * keeps]
    assert {row["model"] for row in found["rows"]} == {"small, float32"}
    assert any(note.startswith("huge: left out") for note in found["notes"])


def test_without_the_library_the_check_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Skip, match="torch and transformers are needed"):
        transformers.run(tmp_path, None)
