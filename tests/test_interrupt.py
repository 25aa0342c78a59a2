"""An export that is interrupted leaves nothing behind, and an existing bundle as it was."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtp.export.output import replace_folder


def interrupted(process: subprocess.Popen[str], step: str, number: signal.Signals) -> str:
    """Send a signal when the export says that it has come to a step; returns stderr."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if line.startswith(step):
            process.send_signal(number)
            break
    else:
        pytest.fail(f"the export never came to {step!r}:\n{seen}")
    out, rest = process.communicate(timeout=120)
    assert out == ""
    # Where the interrupt came inside exec() of a string, CPython raises the signal once more at its
    # end, after all was handled; a shell sees 130 either way.
    assert process.returncode > 0 or process.returncode == -signal.SIGINT, rest
    assert "Traceback" not in rest
    return seen + rest


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGINT, "reading the model"),
        (signal.SIGINT, "tracing vision"),
        (signal.SIGTERM, "tracing vision"),
        (signal.SIGTERM, "running PyTorch"),
    ],
)
def test_an_interrupted_export_leaves_nothing(
    start_vtp: Any, random_llava: Path, tmp_path: Path, number: signal.Signals, step: str
) -> None:
    parent = tmp_path / "out"
    process = start_vtp("export", random_llava, "--out", parent / "bundle")
    err = interrupted(process, step, number)
    assert list(tmp_path.iterdir()) == []
    assert ("Interrupted" in err) == (number == signal.SIGINT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, "tracing vision"), (signal.SIGINT, "checking target")],
)
def test_a_bundle_that_is_being_replaced_survives(
    start_vtp: Any,
    copy_of: Callable[[Path], Path],
    random_bundle: Path,
    random_llava: Path,
    number: signal.Signals,
    step: str,
) -> None:
    bundle = copy_of(random_bundle)
    process = start_vtp("export", random_llava, "--keep", "0.5", "--out", bundle, "--force")
    interrupted(process, step, number)
    assert snapshot(bundle) == snapshot(random_bundle)
    assert list(bundle.parent.iterdir()) == [bundle]


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_an_interruption_between_the_renames(
    tmp_path: Path, random_bundle: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    """The old folder steps aside, then the new one takes its place; stop around either."""
    out = tmp_path / "bundle"
    shutil.copytree(random_bundle, out)
    rename, calls = Path.rename, []

    def stopped(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == renamed + 1:
            raise KeyboardInterrupt
        moved = rename(self, target)
        if renamed == len(calls) == 2:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt), replace_folder(out, force=True) as folder:
        (folder / "manifest.json").write_text("new")
    assert list(tmp_path.iterdir()) == [out]
    new = (out / "manifest.json").read_text() == "new"
    assert new == (renamed == 2)
    assert new or snapshot(out) == snapshot(random_bundle)


def test_a_bundle_is_replaced_whole(tmp_path: Path, random_bundle: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(random_bundle, out)
    with replace_folder(out, force=True) as folder:
        (folder / "manifest.json").write_text("new")
        assert snapshot(out) == snapshot(random_bundle)
    assert snapshot(out) == {"manifest.json": b"new"}
    assert list(tmp_path.iterdir()) == [out]
