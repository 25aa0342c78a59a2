"""Read tensors of a safetensors file as memory maps, with numpy alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import BundleCorrupted
from .safetensors_header import read_header

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


class TensorFile:
    """A safetensors file; a tensor is read from disk when its rows are touched.

    Raises:
        BundleCorrupted: the file is missing, cut off, or no safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._header = read_header(path)
        except FileNotFoundError:
            raise BundleCorrupted(path.name, "is missing") from None
        except (OSError, ValueError) as error:
            raise BundleCorrupted(path.name, "has a broken header") from error

    def names(self) -> list[str]:
        """Names of all tensors."""
        return list(self._header.entries)

    def tensor(self, name: str) -> np.ndarray:
        """The tensor as a read-only memory map.

        Raises:
            BundleCorrupted: no such tensor, or its place lies outside the file.
        """
        try:
            place = self._header.place(name)
            dtype = np.dtype(_DTYPES[place.dtype])
        except (KeyError, ValueError) as error:
            raise BundleCorrupted(self.path.name, f"has no readable tensor {name!r}") from error
        if place.offset + place.nbytes > self._header.size:
            raise BundleCorrupted(self.path.name, f"is cut off before the end of tensor {name!r}")
        if place.nbytes == 0:
            return np.zeros(place.shape, dtype)
        return np.memmap(self.path, dtype, "r", place.offset, place.shape)


def float32_of(rows: np.ndarray) -> np.ndarray:
    """Numbers as float32; uint16 are bfloat16, the upper half of a float32."""
    if rows.dtype == np.uint16:
        return (rows.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(rows, dtype=np.float32)
