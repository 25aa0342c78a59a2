"""TensorFile against the safetensors package, and against damage."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save, save_file

from vtp.errors import BundleCorrupted
from vtp.runtime.files.tensorfile import TensorFile

DTYPES = ["f8", "f4", "f2", "i8", "i4", "i1", "u1", "?"]

# The file is written anew for every example.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)


def written(path: Path, header: Any, data: bytes = b"") -> Path:
    """A file with a header that says anything."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def read_all(path: Path) -> bool:
    """Whether every tensor can be read; any exception but BundleCorrupted is a failure."""
    try:
        file = TensorFile(path)
        for name in file.names():
            np.asarray(file.tensor(name)).sum()
    except BundleCorrupted:
        return False
    return True


@given(st.dictionaries(st.text(min_size=1).filter("__metadata__".__ne__), arrays, max_size=4))
@one_folder
def test_what_safetensors_writes_is_read_bit_by_bit(
    tmp_path: Path, tensors: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "file.safetensors"
    save_file(tensors, path, metadata={"format": "pt"})
    file = TensorFile(path)
    assert sorted(file.names()) == sorted(tensors)
    for name, array in tensors.items():
        found = file.tensor(name)
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == array.tobytes()


def test_a_tensor_is_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"a": np.arange(6, dtype=np.float32)}, path)
    array = TensorFile(path).tensor("a")
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_a_tensor_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    save_file({"a": np.zeros(2)}, path)
    with pytest.raises(BundleCorrupted, match="no readable tensor 'b'"):
        TensorFile(path).tensor("b")


def test_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleCorrupted, match=r"'none\.safetensors' is missing"):
        TensorFile(tmp_path / "none.safetensors")
    with pytest.raises(BundleCorrupted):
        TensorFile(tmp_path)


@given(st.binary(max_size=64))
@example(b"")
@example(struct.pack("<Q", 2**63) + b"{}")
@example(struct.pack("<Q", 2) + b"[]")
@one_folder
def test_random_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    read_all(path)


SAMPLE = save({"a": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(2, np.int64)})


@given(st.integers(0, len(SAMPLE) - 1))
@one_folder
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(SAMPLE[:length])
    assert not read_all(path)


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
@one_folder
def test_a_byte_that_is_changed_is_read_or_refused(tmp_path: Path, at: int, byte: int) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(SAMPLE[:at] + bytes([byte]) + SAMPLE[at + 1 :])
    read_all(path)


VALID = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "F99"},
        {"dtype": ["F32"]},
        {"dtype": None},
        {"shape": [2, 3]},
        {"shape": [-2, -2]},
        {"shape": "22"},
        {"shape": [2.5, 2]},
        {"shape": [[2], 2]},
        {"shape": 4},
        {"shape": [2**32, 2**32], "data_offsets": [0, 0]},
        {"shape": [10**30]},
        {"shape": [0, 2**62, 2**62], "data_offsets": [0, 0]},
        {"shape": [float("inf")]},
        {"data_offsets": [0, 15]},
        {"data_offsets": [16, 0]},
        {"data_offsets": [-8, 8]},
        {"data_offsets": [4, 20]},
        {"data_offsets": [0]},
        {"data_offsets": [0, 16, 32]},
        {"data_offsets": [float("inf"), float("nan")]},
        {"data_offsets": [2**70, 2**70 + 16]},
        {"data_offsets": {"0": 16}},
    ],
)
def test_an_entry_that_does_not_fit_the_file(tmp_path: Path, change: dict[str, Any]) -> None:
    assert read_all(written(tmp_path / "a.safetensors", {"x": VALID}, b"\0" * 16))
    assert not read_all(written(tmp_path / "b.safetensors", {"x": VALID | change}, b"\0" * 16))


@pytest.mark.parametrize(
    "header", [[], 3, None, {"x": 1}, {"x": []}, {"x": {}}, b"{", b"\xff\xff", b"[" * 50_000]
)
def test_a_header_that_is_none(tmp_path: Path, header: Any) -> None:
    assert not read_all(written(tmp_path / "file.safetensors", header, b"\0" * 16))


def test_metadata_is_no_tensor(tmp_path: Path) -> None:
    header = {"__metadata__": {"format": "pt"}, "x": VALID}
    assert TensorFile(written(tmp_path / "f.safetensors", header, b"\0" * 16)).names() == ["x"]
