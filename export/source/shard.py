"""The header of a safetensors file: where each tensor lies, so that any stretch can be read.

Read with ``pread`` into buffers that are used again, never mapped: a mapped file counts as the
process's memory page by page as it is read.
"""

from __future__ import annotations

import json
import math
import operator
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import LfsPointer, ModelFileMissing
from .lfs import refuse_pointer

NUMPY_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Types that weights may have -> numpy's names."""
_MAX_HEADER = 100_000_000


@dataclass(frozen=True, kw_only=True)
class TensorPlace:
    """One tensor of a shard."""

    path: Path
    key: str
    """Name in the file."""
    dtype: str
    """Type as safetensors spells it."""
    shape: tuple[int, ...]
    offset: int
    """First byte, from the start of the file."""
    nbytes: int

    def read_into(self, buffer: np.ndarray, start: int) -> None:
        """Fill ``buffer`` (uint8) with the tensor's bytes from byte ``start`` on.

        Raises:
            ModelFileMissing: the file ends before.
        """
        view, at = memoryview(buffer), self.offset + start
        with self.path.open("rb", buffering=0) as file:
            while len(view):
                count = os.preadv(file.fileno(), [view], at)
                if count == 0:
                    raise ModelFileMissing(
                        self.path.parent,
                        f"complete {self.path.name}",
                        "the file became shorter while it was read",
                    )
                view, at = view[count:], at + count


def read_header(path: Path) -> list[TensorPlace]:
    """Every tensor of a safetensors file.

    Raises:
        ModelFileMissing: no safetensors file, or not all of it is there.
        LfsPointer: git left a pointer in its place.
    """
    try:
        refuse_pointer(path)
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        places = [_place(path, key, entry, 8 + length) for key, entry in header.items()]
    except LfsPointer:
        raise
    except (
        OSError,
        struct.error,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ModelFileMissing(
            path.parent,
            f"readable {path.name}",
            f"the safetensors header is broken ({error}); download the file again",
        ) from error
    end = max((place.offset + place.nbytes for place in places), default=0)
    if end > size:
        raise ModelFileMissing(
            path.parent,
            f"complete {path.name}",
            f"the file has {size:,} bytes, but its header says {end:,}; download it again",
        )
    return places


def _place(path: Path, key: str, entry: dict[str, Any], start: int) -> TensorPlace:
    shape = tuple(operator.index(dim) for dim in entry["shape"])
    begin, end = map(operator.index, entry["data_offsets"])
    if min((begin, end - begin, *shape)) < 0:
        raise ValueError(f"tensor {key!r} has a negative size")
    dtype = str(entry["dtype"])
    if dtype in NUMPY_NAMES and end - begin != math.prod(shape) * _itemsize(dtype):
        raise ValueError(f"tensor {key!r} has {end - begin:,} bytes for shape {shape}")
    return TensorPlace(
        path=path, key=key, dtype=dtype, shape=shape, offset=start + begin, nbytes=end - begin
    )


def _itemsize(dtype: str) -> int:
    return {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}[dtype]
