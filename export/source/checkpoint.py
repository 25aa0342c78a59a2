"""A model folder's safetensors files, read tensor by tensor."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np

from ...errors import ModelFileMissing, ModelNotSupported, UnsafeWeights
from .dtypes import numpy_type
from .lfs import refuse_pointer
from .shard import NUMPY_NAMES, TensorPlace, read_header

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
"""How weights end that can run code when they are read."""
_VARIANT = re.compile(
    r"model\.(?P<single>[\w-]+)\.safetensors|model\.safetensors\.index\.(?P<index>[\w-]+)\.json"
)
_SHARD = re.compile(r"[\w.]+-\d{5}-of-\d{5}")


class Checkpoint(Collection[str]):
    """All tensors of a model folder, by canonical name.

    Args:
        folder: holds ``model.safetensors``, or shards with ``model.safetensors.index.json``, or one
            variant of either (``model.fp16.safetensors``); as in transformers, whatever else lies
            there is not read.
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

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

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
                self.folder,
                f"tensor {name!r} in its weights",
                "the weights do not match config.json",
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


def index_keys(folder: Path) -> list[str] | None:
    """Keys of all tensors by the index of the shards alone, where one will be read; else None.

    Raises:
        ModelFileMissing: the index cannot be read.
    """
    index = folder / INDEX
    if (folder / SINGLE).is_file() or not index.is_file():
        return None
    return list(_weight_map(index))


def _safetensors_files(folder: Path) -> list[Path]:
    # In the order of transformers: one file goes before shards.
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return _shards(folder / INDEX)
    variants = _variants(folder)
    if len(variants) > 1:
        names = " and ".join(path.name for path in variants.values())
        raise ModelFileMissing(
            folder, SINGLE, f"keep only one of {names}, or rename one to {SINGLE}"
        )
    for path in variants.values():
        return _shards(path) if path.suffix == ".json" else [path]
    others = [path.name for path in sorted(folder.glob("*.safetensors"))]
    if others:
        hint = f"{others[0]} exists, but transformers and vtp do not read it"
        if _SHARD.fullmatch(Path(others[0]).stem):
            hint = f"the folder has shards, but not their index ({INDEX}); download it too"
        raise ModelFileMissing(folder, SINGLE, hint)
    unsafe = [path.name for path in sorted(folder.iterdir()) if path.suffix in UNSAFE]
    if unsafe:
        raise UnsafeWeights(folder, unsafe[0])
    raise ModelFileMissing(folder, "*.safetensors")


def variant_of(folder: Path) -> str | None:
    """What transformers calls the weights of a folder, such as ``fp16``; None for plain names."""
    if (folder / SINGLE).is_file() or (folder / INDEX).is_file():
        return None
    return next(iter(_variants(folder)), None)


def _variants(folder: Path) -> dict[str, Path]:
    return {
        found["single"] or found["index"]: path
        for path in sorted(folder.iterdir())
        if (found := _VARIANT.fullmatch(path.name)) and not _SHARD.fullmatch(path.stem)
    }


def _shards(index: Path) -> list[Path]:
    names = sorted(set(_weight_map(index).values()))
    for name in names:
        # A shard name is a plain file name; anything else could lead out of the folder.
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ModelFileMissing(index.parent, f"shard {name!r}")
    return [index.parent / name for name in names]


def _weight_map(index: Path) -> dict[str, str]:
    refuse_pointer(index)
    try:
        found = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(key): str(name) for key, name in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileMissing(index.parent, f"readable {index.name}", str(error)) from error
