"""Random weights as a safetensors shard, written as fast as the disk takes them."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Type of weights -> safetensors' name."""
# A prime: rows of a matrix then never meet the block at the same place twice.
_BLOCK = 4_194_301
SPREAD = 0.02
"""Standard deviation of matrices, as transformers initialises them."""


class RandomTensors:
    """Draws one block of normal numbers; every tensor is a stretch of it, repeated.

    Args:
        dtype: a key of ``TYPES``.
        seed: of the block.
        spread: standard deviation of matrices.
    """

    def __init__(self, dtype: str, seed: int = 0, spread: float = SPREAD) -> None:
        self.dtype = dtype
        self.itemsize: int = getattr(torch, dtype).itemsize
        drawn = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(seed))
        self._matrix = self._bytes(drawn * spread)
        # Norms near one, each different, so that one in the place of another is seen.
        self._norm = self._bytes(1 + drawn[: _BLOCK // 8] * 0.1)
        self._start = 0

    def _bytes(self, values: torch.Tensor) -> memoryview:
        return memoryview(values.to(getattr(torch, self.dtype)).view(torch.uint8).numpy())

    def write_shard(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Write tensors of these shapes, in order. Returns the bytes of their data."""
        offset = 0
        header: dict[str, object] = {"__metadata__": {"format": "pt"}}
        for name, shape in shapes.items():
            size = math.prod(shape) * self.itemsize
            header[name] = {
                "dtype": TYPES[self.dtype],
                "shape": list(shape),
                "data_offsets": [offset, offset + size],
            }
            offset += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for name, shape in shapes.items():
                self._write(file, name, shape)
        return offset

    def _write(self, file: BinaryIO, name: str, shape: tuple[int, ...]) -> None:
        one_dimensional = len(shape) == 1
        block = self._norm if one_dimensional and name.endswith("weight") else self._matrix
        left = math.prod(shape) * self.itemsize
        at = self._start * self.itemsize % len(block)
        while left:
            piece = block[at : at + left]
            file.write(piece)
            left -= len(piece)
            at = 0
        self._start = (self._start + 1_000_003) % _BLOCK
