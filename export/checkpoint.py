"""A model folder's safetensors files, read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from ..errors import ModelFileMissing, ModelNotSupported, UnsafeWeights
from .dtypes import numpy_type
from .shard import NUMPY_NAMES, TensorPlace, read_header

_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


class Checkpoint:
    """All tensors of a model folder, by canonical name.

    Args:
        folder: holds ``model.safetensors``, or shards with ``model.safetensors.index.json``.
        canonical_name: maps a checkpoint key to the family's name for the tensor.

    Raises:
        UnsafeWeights: only pickled or otherwise unsafe weights are there.
        ModelFileMissing: no weights, or a shard is missing or not complete.
    """

    def __init__(self, folder: Path, canonical_name: Callable[[str], str]) -> None:
        self.folder = folder
        self._places: dict[str, TensorPlace] = {}
        for path in _safetensors_files(folder):
            for place in read_header(path):
                self._places[canonical_name(place.key)] = place

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        return self.place(name).shape

    def place(self, name: str) -> TensorPlace:
        """Where a tensor lies.

        Raises:
            ModelFileMissing: there is none of that name.
            ModelNotSupported: its type is none that weights have.
        """
        if name not in self._places:
            raise ModelFileMissing(
                self.folder, f"tensor {name!r} in its weights", "the weights do not fit config.json"
            )
        place = self._places[name]
        if place.dtype not in NUMPY_NAMES:
            raise ModelNotSupported(f"tensor {place.key!r} of type {place.dtype}", NUMPY_NAMES)
        return place

    def array(self, name: str) -> np.ndarray:
        """The tensor as float32 (bfloat16 and float16 are widened)."""
        place = self.place(name)
        data = np.empty(place.nbytes, np.uint8)
        place.read_into(data, 0)
        array: np.ndarray = data.view(numpy_type(NUMPY_NAMES[place.dtype])).reshape(place.shape)
        return array.astype(np.float32, copy=False)


def _safetensors_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileMissing(folder, f"readable {index.name}", str(error)) from error
        for name in map(str, names):
            # A shard name is a plain file name; anything else could lead out of the folder.
            if Path(name).name != name or not (folder / name).is_file():
                raise ModelFileMissing(folder, f"shard {name!r}")
        return [folder / str(name) for name in names]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    unsafe = [path.name for pattern in _UNSAFE for path in sorted(folder.glob(pattern))]
    if unsafe:
        raise UnsafeWeights(folder, unsafe[0])
    raise ModelFileMissing(folder, "*.safetensors")
