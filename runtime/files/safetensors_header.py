"""The header of a safetensors file: where each tensor lies.

Format: eight bytes of header length (little-endian), a JSON header, then the data. See
https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
import math
import operator
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_HEADER = 100_000_000
ITEM_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
ITEM_SIZES["BOOL"] = 1
"""Bytes of a number, of the types that are read here."""


@dataclass(frozen=True, kw_only=True)
class HeaderEntry:
    """Where a tensor lies."""

    dtype: str
    """Type as safetensors spells it."""
    shape: tuple[int, ...]
    offset: int
    """First byte, from the start of the file."""
    nbytes: int


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header as it was read; its entries are not checked yet."""

    entries: dict[str, Any]
    start: int
    """Where the data begins."""
    size: int
    """Of the whole file."""

    def place(self, name: str) -> HeaderEntry:
        """Where a tensor lies, which may be beyond the end of the file.

        Raises:
            ValueError: there is no such tensor, or its entry makes no sense.
        """
        try:
            entry = self.entries[name]
            dtype = str(entry["dtype"])
            shape = tuple(operator.index(dim) for dim in entry["shape"])
            begin, end = map(operator.index, entry["data_offsets"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"tensor {name!r} has no readable entry") from error
        if min((begin, end - begin, *shape)) < 0:
            raise ValueError(f"tensor {name!r} has a negative size")
        if max(shape, default=0) > self.size:
            raise ValueError(f"tensor {name!r} has shape {shape} in a file of {self.size:,} bytes")
        if dtype in ITEM_SIZES and end - begin != math.prod(shape) * ITEM_SIZES[dtype]:
            raise ValueError(f"tensor {name!r} has {end - begin:,} bytes for shape {shape}")
        return HeaderEntry(dtype=dtype, shape=shape, offset=self.start + begin, nbytes=end - begin)


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no safetensors file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if len(first) < 8:
            raise ValueError(f"a file of {size:,} bytes")
        (length,) = struct.unpack("<Q", first)
        if not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        try:
            entries = json.loads(file.read(length))
        except RecursionError as error:
            raise ValueError("its JSON is nested too deeply") from error
    if not isinstance(entries, dict):
        raise ValueError("its JSON is not an object")
    entries.pop("__metadata__", None)
    return Header(entries=entries, start=8 + int(length), size=size)
