"""The check of the selection kernel, with a kernel in NumPy over host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtp.bench.gpu import kernel

from .stand_in_device import StandInCuda, StandInKernel, put_in_torchs_place


@pytest.fixture(autouse=True)
def small(device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-ins, and little to select and to copy."""
    monkeypatch.setattr(kernel, "Cuda", StandInCuda)
    monkeypatch.setattr(kernel, "TopKTokensKernel", StandInKernel)
    monkeypatch.setattr(kernel, "_SIZES", ((64, 6, 16), (128, 13, 16)))
    monkeypatch.setattr(kernel, "_COPY_BYTES", 2**16)
    monkeypatch.setattr(kernel, "_REPEAT", 2)


def test_cases_and_a_row_for_each_size(tmp_path: Path) -> None:
    found = kernel.run(tmp_path, None)
    assert [row["tokens"] for row in found["rows"]] == [64, 128]
    assert all(float(row["kernel, us"]) > 0 for row in found["rows"])
    assert {row["torch topk, sort, gather, us"] for row in found["rows"]} == {"no torch with CUDA"}
    cases, bandwidth = found["notes"]
    assert f"{4 * len(kernel.CASES)} cases equal" in cases
    assert "GB/s" in bandwidth


def test_beside_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_torchs_place(monkeypatch)
    rows = kernel.run(tmp_path, None)["rows"]
    assert all(float(row["torch topk, sort, gather, us"]) >= 0 for row in rows)


def test_a_wrong_selection_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*given: Any) -> tuple[np.ndarray, np.ndarray]:
        return given[2][:, : given[4]], np.zeros((1, given[4]), np.int64)

    monkeypatch.setattr(kernel, "_select", wrong)
    with pytest.raises(AssertionError, match=r"case '.*' in float32: kept"):
        kernel.run(tmp_path, None)


def test_what_cannot_be_captured_is_not_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInCuda, "end_capture", lambda self: setattr(self, "captured", None))
    with pytest.raises(RuntimeError, match="could not be captured"):
        kernel.run(tmp_path, None)
