"""``.ci/check_torch.py``: pip is asked before gigabytes are downloaded, and here answers itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / ".ci" / "check_torch.py"
_PIP = """\
import sys
assert sys.argv[1:5] == ["install", "--dry-run", "--quiet", "--report"], sys.argv
assert sys.argv[-3:] == ["-c", "constraints.txt", "torch"], sys.argv
print({report!r})
sys.exit({status})
"""


def checked(folder: Path, names: list[str], status: int = 0) -> subprocess.CompletedProcess[str]:
    """As the Makefile calls it, with a pip that would install packages of these names."""
    report = json.dumps({"install": [{"metadata": {"name": name}} for name in names]})
    (folder / "pip.py").write_text(_PIP.format(report=report, status=status))
    return subprocess.run(
        [sys.executable, SCRIPT, "-c", "constraints.txt"],
        env={"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_build_for_the_processor_is_taken(tmp_path: Path) -> None:
    done = checked(tmp_path, ["torch", "numpy"])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_build_for_nvidia_devices_is_not(tmp_path: Path) -> None:
    done = checked(tmp_path, ["torch", "nvidia-cublas", "cuda-bindings"])
    assert done.returncode == 1
    assert "with 2 NVIDIA packages" in done.stderr
    assert "make demo TORCH_INDEX=" in done.stderr


@pytest.mark.parametrize("status", [1, 2])
def test_what_pip_cannot_answer_is_its_own_status(tmp_path: Path, status: int) -> None:
    assert checked(tmp_path, [], status).returncode == status
