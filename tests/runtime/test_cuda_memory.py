"""Buffers by address, on host memory: the same as arrays. On a device: ``make gpu-check``."""

from __future__ import annotations

import gc
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtp.errors import EngineUnavailable
from vtp.runtime.engines import cuda_memory
from vtp.runtime.engines.base import ArrayBuffer
from vtp.runtime.engines.cuda_memory import Cuda, DeviceBuffer

from .host_memory import HostMemory


def pair(shape: tuple[int, ...], dtype: str, memory: Any) -> tuple[ArrayBuffer, DeviceBuffer]:
    """One buffer as an array, and one by address, both of the same content."""
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    array, device = ArrayBuffer(np.empty(shape, dtype)), DeviceBuffer(memory, shape, dtype)
    array.write(values)
    device.write(values)
    return array, device


@given(
    st.integers(1, 3),
    st.integers(1, 7),
    st.integers(1, 5),
    st.sampled_from(["float32", "float16", "int64"]),
    st.data(),
)
def test_rows_are_copied_as_in_arrays(
    items: int, rows: int, dim: int, dtype: str, data: Any
) -> None:
    memory = HostMemory()
    array, device = pair((1, rows + 4, dim), dtype, memory)
    from_array, from_device = pair((items, rows, dim), dtype, memory)
    at, start = data.draw(st.integers(0, 4)), data.draw(st.integers(0, (items - 1) * rows))
    array.copy_rows(at, from_array, start, rows)
    device.copy_rows(at, from_device, start, rows)
    np.testing.assert_array_equal(array.read(), device.read())
    new = np.arange(rows * dim, dtype=dtype).reshape(rows, dim)
    array.write_rows(4 - at, new)
    device.write_rows(4 - at, new)
    np.testing.assert_array_equal(array.read(), device.read())


@given(st.integers(0, 6), st.integers(0, 6))
def test_a_part_is_the_same_memory(start: int, stop: int) -> None:
    start, stop = sorted((start, stop))
    array, device = pair((1, 6, 2, 3), "float32", HostMemory())
    for buffer in (array, device):
        part = buffer.rows(start, stop)
        assert part.shape == (1, stop - start, 2, 3)
        part.write(np.full(part.shape, 7, np.float32))
    np.testing.assert_array_equal(array.read(), device.read())
    assert (array.read() == 7).sum() == (stop - start) * 6


def test_a_scalar_fills_the_buffer() -> None:
    for value in (0.0, 2.5):
        buffer = DeviceBuffer(cast(Any, HostMemory()), (2, 3), "float32")
        buffer.write(np.float32(value))
        np.testing.assert_array_equal(buffer.read(), np.full((2, 3), value, np.float32))


def test_memory_is_freed_when_neither_buffer_nor_part_is_used() -> None:
    memory = HostMemory()
    buffer = DeviceBuffer(cast(Any, memory), (1, 4, 2), "float32")
    part = buffer.rows(1, 3)
    del buffer
    gc.collect()
    assert memory.blocks
    np.testing.assert_array_equal(part.read().shape, (1, 2, 2))
    del part
    gc.collect()
    assert not memory.blocks


def test_without_a_device_the_reason_is_told() -> None:
    reason = cuda_memory.missing()
    if reason is None:
        pytest.skip("there is a CUDA device")
    assert "cuda" in reason.lower()
    with pytest.raises(EngineUnavailable, match="cannot run here"):
        Cuda("tensorrt")
