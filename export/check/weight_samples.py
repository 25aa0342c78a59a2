"""Does the written weight file hold the checkpoint? Asked of a few numbers of every tensor.

A model that is too large to run whole is compared with PyTorch on its first layers. This is what is
known of the others: each tensor lies where the file's header says, turned the right way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...errors import WeightsNotCopied
from ..source.checkpoint import Checkpoint
from ..source.dtypes import numpy_type
from ..source.shard import NUMPY_NAMES, TensorPlace, read_header
from ..weights.weight_file import Stored

_SAMPLES = 16


def check_samples(path: Path, stored: Iterable[Stored], checkpoint: Checkpoint) -> None:
    """Compare numbers of every tensor, the first and the last among them, with the checkpoint's.

    Args:
        path: the weight file; its own header says where its tensors are.
        stored: what it should hold; tables that the exporter computed are left out.
        checkpoint: where it came from.

    Raises:
        WeightsNotCopied: naming the first tensor that differs.
    """
    written = {place.key: place for place in read_header(path)}
    for item in stored:
        # Rounding to few bits is compared with PyTorch's own arithmetic, not number by number.
        if item.source is None or item.part is not None:
            continue
        source, copy = checkpoint.place(item.source), written[item.name]
        count = math.prod(source.shape)
        for number in range(_SAMPLES):
            at = number * (count - 1) // (_SAMPLES - 1)
            want, got = _number(source, at), _number(copy, _turned(source, at, item.transposed))
            with np.errstate(over="ignore"):
                cast = want.astype(numpy_type(NUMPY_NAMES[copy.dtype]))
            if cast.tobytes() != got.tobytes():
                raise WeightsNotCopied(item.name, float(want[0]), float(got[0]))


def _turned(source: TensorPlace, at: int, transposed: bool) -> int:
    """Where a number of a matrix lies in its transpose."""
    if not transposed:
        return at
    rows, columns = source.shape
    row, column = divmod(at, columns)
    return column * rows + row


def _number(place: TensorPlace, at: int) -> np.ndarray:
    """One number of a tensor, as an array of one."""
    dtype = numpy_type(NUMPY_NAMES[place.dtype])
    data = np.empty(dtype.itemsize, np.uint8)
    place.read_into(data, at * dtype.itemsize)
    return data.view(dtype)
