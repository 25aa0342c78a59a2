"""From the checkpoint into the weight file through two buffers: read, turn and cast, hash, write.

A thread writes and another one hashes while the next block is filled. What is not turned passes in
the order of the file; a matrix that is turned is taken in stripes of its columns, each as wide as a
buffer allows, so that all but the largest are read once.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from ..source.dtypes import numpy_type
from ..source.shard import NUMPY_NAMES, TensorPlace

BLOCK = 2**27
"""Bytes of each of the two buffers; a matrix of a 7B decoder's layer fits into one."""
_READ = 2**24
"""Bytes read at once where they are not read straight into a buffer."""
_TILE = 256
"""Rows turned at once: what they touch stays in the processor's cache."""


class Sink:
    """Writes and hashes what is put into it, in order, while the caller fills the next buffer.

    Args:
        file: open for writing.
        block: bytes of each of its two buffers.
    """

    def __init__(self, file: BinaryIO, block: int = BLOCK) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._buffers = deque(np.empty(block, np.uint8) for _ in range(2))
        self._pending: deque[list[Future[Any]]] = deque()
        self._threads = [ThreadPoolExecutor(max_workers=1) for _ in range(2)]
        self.block = block
        self.written = 0

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            thread.shutdown(wait=True, cancel_futures=True)

    def buffer(self, nbytes: int) -> np.ndarray:
        """A buffer of ``nbytes`` (uint8) to be filled and put; at most ``block``."""
        self._wait(1)
        self._buffers.rotate(1)
        buffer: np.ndarray = self._buffers[0][:nbytes]
        return buffer

    def put(self, data: Any) -> None:
        """Write and hash contiguous memory, which must not be changed until another was put."""
        self._wait(1)
        view = memoryview(data).cast("B")
        works = (self._write, self._digest.update)
        self._pending.append(
            [thread.submit(work, view) for thread, work in zip(self._threads, works, strict=True)]
        )
        self.written += len(view)

    def finish(self) -> str:
        """Wait for all of it; returns the sha256 in hexadecimal."""
        self._wait(0)
        return self._digest.hexdigest()

    def _write(self, view: memoryview) -> None:
        while len(view):
            view = view[self._file.write(view) :]

    def _wait(self, left: int) -> None:
        while len(self._pending) > left:
            for future in self._pending.popleft():
                future.result()


def copy_tensor(place: TensorPlace, dtype: str, transposed: bool, sink: Sink) -> None:
    """Put a tensor of the checkpoint into the sink.

    What does not fit the type becomes infinite.

    Args:
        place: the tensor.
        dtype: type to cast to: ``float32``, ``float16`` or ``bfloat16``.
        transposed: of a matrix ``(rows, columns)``, write ``(columns, rows)``.
        sink: where to.
    """
    source, target = numpy_type(NUMPY_NAMES[place.dtype]), numpy_type(dtype)
    with np.errstate(over="ignore"):
        if transposed:
            _turn(place, source, target, sink)
        else:
            _pass(place, source, target, sink)


def _pass(place: TensorPlace, source: np.dtype, target: np.dtype, sink: Sink) -> None:
    count = place.nbytes // source.itemsize
    same = source == target
    step = (sink.block if same else min(_READ, sink.block)) // max(source.itemsize, target.itemsize)
    read = np.empty(0 if same else step * source.itemsize, np.uint8)
    for start in range(0, count, step):
        some = min(step, count - start)
        out = sink.buffer(some * target.itemsize)
        into = out if same else read[: some * source.itemsize]
        place.read_into(into, start * source.itemsize)
        if not same:
            out.view(target)[...] = into.view(source)
        sink.put(out)


def _turn(place: TensorPlace, source: np.dtype, target: np.dtype, sink: Sink) -> None:
    rows, columns = place.shape
    width = min(columns, max(1, sink.block // (rows * target.itemsize)))
    height = min(rows, max(1, min(_READ, sink.block) // (columns * source.itemsize)))
    read = np.empty((height, columns * source.itemsize), np.uint8)
    # Numbers that stay as they are move as whole numbers, which is faster.
    moved = (np.dtype(f"u{source.itemsize}"),) * 2 if source == target else (source, target)
    for first in range(0, columns, width):
        last = min(first + width, columns)
        out = sink.buffer((last - first) * rows * target.itemsize)
        turned = out.view(moved[1]).reshape(last - first, rows)
        for row in range(0, rows, height):
            some = min(height, rows - row)
            place.read_into(read[:some].reshape(-1), row * columns * source.itemsize)
            matrix = read[:some].view(moved[0])[:, first:last]
            for tile in range(0, some, _TILE):
                stop = min(tile + _TILE, some)
                for column in range(0, last - first, 4 * _TILE):
                    end = min(column + 4 * _TILE, last - first)
                    part = matrix[tile:stop, column:end]
                    turned[column:end, row + tile : row + stop] = part.T
        sink.put(out)
