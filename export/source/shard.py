"""The tensors of a safetensors file of a checkpoint, any stretch of which can be read.

Read with ``pread`` into buffers that are used again, never mapped: a mapped file counts as the
process's memory page by page as it is read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import LfsPointer, ModelFileMissing
from ...runtime.files import safetensors_header
from .lfs import refuse_pointer

NUMPY_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Types that weights may have -> numpy's names."""


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
        header = safetensors_header.read_header(path)
        places = [_place(path, key, header.place(key)) for key in header.entries]
    except LfsPointer:
        raise
    except (OSError, ValueError) as error:
        raise ModelFileMissing(
            path.parent,
            f"readable {path.name}",
            f"the safetensors header is broken ({error}); download the file again",
        ) from error
    size = header.size
    end = max((place.offset + place.nbytes for place in places), default=0)
    if end > size:
        raise ModelFileMissing(
            path.parent,
            f"complete {path.name}",
            f"the file has {size:,} bytes, but its header says {end:,}; download it again",
        )
    return places


def _place(path: Path, key: str, place: safetensors_header.HeaderEntry) -> TensorPlace:
    return TensorPlace(
        path=path,
        key=key,
        dtype=place.dtype,
        shape=place.shape,
        offset=place.offset,
        nbytes=place.nbytes,
    )
