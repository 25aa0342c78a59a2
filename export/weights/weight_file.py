"""The one weight file of a bundle, and how weights get into it without filling memory.

The file is in safetensors format, so that any tool can read it, and serves as ONNX external data:
a graph's initializer is a place in it. Tensors stream one by one from the checkpoint, cast and
transposed on the way.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...runtime.bundle.manifest import WeightsRecord
from ..source.checkpoint import Checkpoint
from ..source.dtypes import numpy_type
from .block_rounding import QuantizedMatrix, check_shape, dequantize, quantize
from .streaming import Sink, copy_tensor

ALIGNMENT = 4096
"""The data starts at a multiple of this, so that it can be mapped."""

_SAFETENSORS_DTYPES = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int8": "I8",
    "uint8": "U8",
    "float8_e4m3fn": "F8_E4M3",
    # The format has no such types: bytes of two numbers.
    "int4": "U8",
    "uint4": "U8",
}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One tensor of the file."""

    name: str
    """Name in the file."""
    shape: tuple[int, ...]
    """Shape as stored."""
    source: str | None
    """Canonical name in the checkpoint; None for a table that the exporter computed."""
    transposed: bool = False
    dtype: str = "float32"
    part: str | None = None
    """What it holds of a quantized matrix: a field of ``quantize.QuantizedMatrix``."""

    @property
    def held_shape(self) -> tuple[int, ...]:
        """Shape of what the file holds, where two numbers are a byte."""
        if self.dtype not in ("int4", "uint4"):
            return self.shape
        return (*self.shape[:-1], self.shape[-1] // 2)

    @property
    def nbytes(self) -> int:
        """Size of the data."""
        return int(np.prod(self.held_shape, dtype=np.int64)) * numpy_type(self.dtype).itemsize


class WeightFile:
    """Collects what the graphs of all targets need, then writes it once."""

    def __init__(self, dtype: str = "float32", file_name: str = "weights.safetensors") -> None:
        self.dtype = dtype
        self.file_name = file_name
        self._stored: dict[str, Stored] = {}
        self._tables: dict[str, np.ndarray] = {}
        self._how: WeightsRecord | None = None
        self._latest: tuple[str, QuantizedMatrix] | None = None

    def weight(self, source: str, shape: tuple[int, ...], transposed: bool = False) -> str:
        """Ask for a checkpoint tensor; ``shape`` is as stored. Returns its name."""
        name = source + (".transposed" if transposed else "")
        self._stored[name] = Stored(
            name=name, shape=shape, source=source, transposed=transposed, dtype=self.dtype
        )
        return name

    def quantized(self, source: str, shape: tuple[int, int], how: WeightsRecord) -> dict[str, str]:
        """Ask for a checkpoint matrix in few bits.

        Args:
            source: its name in the checkpoint, where it is ``(out, in)``.
            shape: ``(in, out)``, as stored.
            how: the same for all matrices of the file.

        Returns:
            For each part (see ``quantize.QuantizedMatrix``) its name.

        Raises:
            NotQuantizable: it does not split into blocks.
        """
        inputs, outputs = shape
        check_shape(source, outputs, inputs, how)
        self._how = how
        number = f"{'' if how.symmetric else 'u'}int{how.bits}"
        parts = {"values": (inputs, number), "scales": (inputs // how.block, self.dtype)}
        if not how.symmetric:
            parts["zeros"] = (inputs // how.block, number)
        names = {part: f"{source}.{number}.{part}" for part in parts}
        for part, (rows, dtype) in parts.items():
            self._stored[names[part]] = Stored(
                name=names[part], shape=(rows, outputs), source=source, dtype=dtype, part=part
            )
        return names

    def quantized_sources(self) -> set[str]:
        """Names in the checkpoint of the matrices that are stored in few bits."""
        return {item.source for item in self._stored.values() if item.part and item.source}

    def rounded(self, weight: np.ndarray) -> np.ndarray:
        """A matrix ``(out, in)`` float32 as the file holds those of ``quantized_sources``."""
        assert self._how is not None
        return dequantize(quantize(weight, self._how, numpy_type(self.dtype)), self._how)

    def table(self, name: str, array: np.ndarray, exact: bool = False) -> str:
        """Ask for an array that the exporter computed, ``exact`` in its own type rather than in
        that of the weights. Returns its name."""
        if array.dtype.kind == "f" and not exact:
            array = array.astype(numpy_type(self.dtype))
        self._tables[name] = array
        self._stored[name] = Stored(
            name=name, shape=array.shape, source=None, dtype=array.dtype.name
        )
        return name

    def packed(self, name: str, data: np.ndarray, shape: tuple[int, ...], dtype: str) -> str:
        """Ask for a computed array of ``int4`` or ``uint4``.

        Args:
            name: its name in the file.
            data: bytes of two numbers, uint8.
            shape: of the numbers.
            dtype: their type.
        """
        self._tables[name] = data
        self._stored[name] = Stored(name=name, shape=shape, source=None, dtype=dtype)
        return name

    def stored(self) -> list[Stored]:
        """Every tensor."""
        return list(self._stored.values())

    def offsets(self) -> dict[str, tuple[Stored, int]]:
        """Every tensor with its offset from the start of the data, largest first: whole matrices
        then lie at multiples of their row size, and odd little vectors disturb nothing. The parts
        of a quantized matrix lie together, so that it is quantized once."""
        values = {i.source: i.nbytes for i in self._stored.values() if i.part == "values"}

        def rank(item: Stored) -> tuple[int, str]:
            return -(values[item.source] if item.part else item.nbytes), item.name

        order = sorted(self._stored.values(), key=rank)
        offset, places = 0, {}
        for item in order:
            places[item.name] = (item, offset)
            offset += item.nbytes
        return places

    def header(self) -> bytes:
        """Length field and JSON header, padded so that the data starts at ``ALIGNMENT``."""
        entries = {
            name: {
                "dtype": _SAFETENSORS_DTYPES[item.dtype],
                "shape": list(item.held_shape),
                "data_offsets": [offset, offset + item.nbytes],
            }
            for name, (item, offset) in self.offsets().items()
        }
        text = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
        text += b" " * (-(8 + len(text)) % ALIGNMENT)
        return struct.pack("<Q", len(text)) + text

    def nbytes(self) -> int:
        """Size of the file."""
        return len(self.header()) + sum(item.nbytes for item in self._stored.values())

    def place_initializers(self, model: ir.Model, names: Mapping[str, str]) -> None:
        """Point the graph's initializers into the file.

        Args:
            model: the graph.
            names: initializer name -> name in the file; those that it does not have are passed by.
        """
        start = len(self.header())
        places = self.offsets()
        for key, name in names.items():
            value = model.graph.initializers.get(key)
            if value is None:
                continue
            item, offset = places[name]
            value.const_value = ir.ExternalTensor(
                location=self.file_name,
                offset=start + offset,
                length=item.nbytes,
                dtype=ir.DataType.from_numpy(numpy_type(item.dtype)),
                shape=ir.Shape(item.shape),
                name=key,
            )
            value.shape = ir.Shape(item.shape)

    def write(
        self, folder: Path, checkpoint: Checkpoint | None, progress: Callable[[int], None]
    ) -> tuple[str, int]:
        """Write the file, tensor by tensor.

        Args:
            folder: where to.
            checkpoint: where the weights come from; None where all are tables.
            progress: called with the bytes written so far.

        Returns:
            sha256 and size in bytes.
        """
        with (folder / self.file_name).open("wb", buffering=0) as file, Sink(file) as sink:
            header = self.header()
            sink.put(header)
            for item, _ in self.offsets().values():
                if item.source is None:
                    sink.put(
                        np.ascontiguousarray(self._tables[item.name]).reshape(-1).view(np.uint8)
                    )
                    progress(sink.written - len(header))
                    continue
                assert checkpoint is not None
                if item.part is not None:
                    part = getattr(self._quantize(item.source, checkpoint), item.part)
                    sink.put(np.ascontiguousarray(part).reshape(-1).view(np.uint8))
                else:
                    place = checkpoint.place(item.source)
                    copy_tensor(place, item.dtype, item.transposed, sink)
                progress(sink.written - len(header))
            return sink.finish(), sink.written

    def _quantize(self, source: str, checkpoint: Checkpoint) -> QuantizedMatrix:
        """A matrix in few bits; the latest is kept for its other parts."""
        assert self._how is not None
        if self._latest is None or self._latest[0] != source:
            made = quantize(checkpoint.array(source), self._how, numpy_type(self.dtype))
            self._latest = source, made
        return self._latest[1]
