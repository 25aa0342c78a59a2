"""Read tensors of a safetensors file as memory maps, with numpy alone.

Format: eight bytes of header length (little-endian), a JSON header, then the data. See
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
import operator
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BundleCorrupted

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,  # numpy has no bfloat16: see ``float32_of``
    "I64": np.int64,
    "I32": np.int32,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_MAX_HEADER = 100_000_000


class TensorFile:
    """A safetensors file; a tensor is read from disk when its rows are touched.

    Raises:
        BundleCorrupted: the file is missing, cut off, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if not 2 <= length <= min(_MAX_HEADER, size - 8):
                    raise BundleCorrupted(path.name, "has a broken header")
                header = json.loads(file.read(length))
        except FileNotFoundError:
            raise BundleCorrupted(path.name, "is missing") from None
        except (OSError, struct.error, ValueError, RecursionError) as error:
            if isinstance(error, BundleCorrupted):
                raise
            raise BundleCorrupted(path.name, "has a broken header") from error
        if not isinstance(header, dict):
            raise BundleCorrupted(path.name, "has a broken header")
        header.pop("__metadata__", None)
        self._header: dict[str, Any] = header
        self._start = 8 + int(length)
        self._size = size

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._header)

    def tensor(self, name: str) -> np.ndarray:
        """The tensor as a read-only memory map.

        Raises:
            BundleCorrupted: no such tensor, or its place lies outside the file.
        """
        try:
            entry = self._header[name]
            dtype = np.dtype(_DTYPES[entry["dtype"]])
            shape = tuple(operator.index(dim) for dim in entry["shape"])
            begin, end = map(operator.index, entry["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise BundleCorrupted(self.path.name, f"has no readable tensor {name!r}") from error
        count = math.prod(shape)
        if (
            min(shape, default=0) < 0
            or begin < 0
            or end - begin != count * dtype.itemsize
            or self._start + end > self._size
            or max(shape, default=0) > self._size
        ):
            raise BundleCorrupted(self.path.name, f"is cut off or misplaces tensor {name!r}")
        if count == 0:
            return np.zeros(shape, dtype)
        return np.memmap(self.path, dtype, "r", self._start + begin, shape)


def float32_of(rows: np.ndarray) -> np.ndarray:
    """Numbers as float32; uint16 are bfloat16, the upper half of a float32."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(rows, dtype=np.float32)
