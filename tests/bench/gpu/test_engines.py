"""The checks of engines and of profiles, with the stand-in for TensorRT in the device's place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vtp.bench.gpu import engines, machine, profile
from vtp.bench.gpu.skip import Skip
from vtp.export import ExportOptions
from vtp.export.targets import TARGETS

from .conftest import REFUSED

ENGINES = {"cpu (ort)", "cpu (onnx)", "tensorrt (tensorrt-native)"}


def test_every_engine_is_built_and_timed(
    device: None, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "_REPEAT", 1)
    found = engines.run(tmp_path, tiny_bundle)
    rows = found["rows"]
    assert {row["engine"] for row in rows} == ENGINES
    assert [row["keep"] for row in rows] == [*engines.KEEPS] * len(ENGINES)
    assert all(float(row["largest difference from PyTorch"]) < 1e-3 for row in rows)
    build, *missing = found["notes"]
    assert build.startswith("vtp build --engine tensorrt --topk plugin: ")
    assert build.endswith(REFUSED)
    assert {note.partition(":")[0] for note in missing} == {"tensorrt-rtx", "cuda"}
    # What was given stays as it is.
    assert not (tiny_bundle / "engines").exists()


def test_every_engine_is_profiled(
    device: None, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "_ROUNDS", 3)
    found = profile.run(tmp_path, tiny_bundle)
    rows = {row["engine"]: row for row in found["rows"]}
    assert set(rows) == ENGINES
    # Nothing waits for the stand-in, whose clock is that of the processor.
    assert [rows[f"cpu ({target})"]["adds up"] for target in ("ort", "onnx")] == ["yes"] * 2
    assert rows["tensorrt (tensorrt-native)"]["device, MiB"] != "-"
    assert any("by pruning is at most" in note for note in found["notes"])


def test_without_a_bundle_one_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path, ExportOptions]] = []
    monkeypatch.setattr("vtp.export.export_model", lambda *arguments: asked.append(arguments))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "left over").touch()
    folder = engines.bundle_for(tmp_path, None)
    assert not folder.exists()
    ((model, out, options),) = asked
    assert (model, out) == ("tiny", folder)
    assert set(options.targets) == set(TARGETS)


def test_where_none_can_be_exported_the_check_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vtp.export", None)
    with pytest.raises(Skip, match=r"no bundle was given \(--bundle\)"):
        engines.bundle_for(tmp_path, None)


def test_the_device_is_named(device: None, tmp_path: Path) -> None:
    facts = {row["what"]: row["is"] for row in machine.run(tmp_path, None)["rows"]}
    assert (facts["device"], facts["compute capability"]) == ("stand-in", "8.7")
