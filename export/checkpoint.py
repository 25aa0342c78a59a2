"""A model folder's safetensors files, read tensor by tensor."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import ModelFileMissing, UnsafeWeights

_UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


class Checkpoint:
    """All tensors of a model folder, by canonical name.

    Args:
        folder: holds ``model.safetensors``, or shards with ``model.safetensors.index.json``.
        canonical_name: maps a checkpoint key to the family's name for the tensor.

    Raises:
        UnsafeWeights: only pickled or otherwise unsafe weights are there.
        ModelFileMissing: no weights, a shard or a tensor is missing.
    """

    def __init__(self, folder: Path, canonical_name: Callable[[str], str]) -> None:
        self.folder = folder
        self._where: dict[str, tuple[Path, str]] = {}
        for path in _safetensors_files(folder):
            try:
                with safe_open(path, framework="pt") as file:
                    for key in file.keys():  # noqa: SIM118 - not a dict
                        self._where[canonical_name(key)] = (path, key)
            except (SafetensorError, OSError) as error:
                raise ModelFileMissing(
                    folder, f"readable {path.name}", f"{error}; download the file again"
                ) from error

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, without reading it."""
        path, key = self._find(name)
        with safe_open(path, framework="pt") as file:
            return tuple(file.get_slice(key).get_shape())

    def array(self, name: str) -> np.ndarray:
        """The tensor as float32 (bfloat16 and float16 are widened)."""
        path, key = self._find(name)
        with safe_open(path, framework="pt") as file:
            array: np.ndarray = file.get_tensor(key).float().numpy()
        return array

    def _find(self, name: str) -> tuple[Path, str]:
        if name not in self._where:
            raise ModelFileMissing(
                self.folder, f"tensor {name!r} in its weights", "the weights do not fit config.json"
            )
        return self._where[name]


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
