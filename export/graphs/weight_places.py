"""Where the weights of a graph lie in the bundle's weight file."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import GraphNotLowered
from ...runtime.bundle.manifest import WeightsRecord
from ..families.base import Family
from ..source.checkpoint import Checkpoint
from ..weights.weight_file import WeightFile
from .neutral import NeutralGraph
from .tracing import unknown_values


class WeightPlaces:
    """Gives every weight of a model's graphs a place in one file.

    Args:
        family: the model's family.
        model: the transformers model on fake tensors, whose graphs these are.
        checkpoint: knows which tensors exist.
        weights: collects what the graphs need.
        quantized: how matrices are stored in few bits, where some are.
    """

    def __init__(
        self,
        family: Family,
        model: Any,
        checkpoint: Checkpoint,
        weights: WeightFile,
        quantized: WeightsRecord | None = None,
    ) -> None:
        self._weights = weights
        self._quantized = quantized
        self._sources: dict[int, str] = {}
        for key, tensor in model.named_parameters(remove_duplicate=False):
            name = family.canonical_name(key)
            if name in checkpoint or id(tensor) not in self._sources:
                self._sources[id(tensor)] = name
        values = {family.canonical_name(k): v for k, v in family.buffers(model).items()}
        self._buffers: dict[int, tuple[str, np.ndarray]] = {}
        for key, tensor in model.named_buffers():
            name = family.canonical_name(key)
            if name in values:
                self._buffers[id(tensor)] = (name, values[name])

    def of(self, graph: NeutralGraph) -> dict[str, str]:
        """Initializer -> name in the file, of every weight that the graph reads.

        Raises:
            GraphNotLowered: a constant whose value is not known.
        """
        places = self._of_blocks(graph)
        for key in unknown_values(graph.model):
            if key in places:
                continue
            shape = tuple(int(dim) for dim in graph.model.graph.initializers[key].shape or ())
            table = key.rpartition(".")[2]
            if table in graph.tables:
                places[key] = self._weights.table(table, graph.tables[table])
            elif key in graph.parameters:
                source = self._sources[id(graph.parameters[key])]
                places[key] = self._weights.weight(source, shape, key in graph.transposed)
            elif id(graph.buffers.get(key)) in self._buffers:
                table, values = self._buffers[id(graph.buffers[key])]
                places[key] = self._weights.table(table, values, exact=True)
            else:
                raise GraphNotLowered(graph.name, f"constant {key!r} has no known value")
        return places

    def _of_blocks(self, graph: NeutralGraph) -> dict[str, str]:
        """Of matrices in few bits, which are several initializers each."""
        places: dict[str, str] = {}
        for key, block in graph.blocks.items():
            assert self._quantized is not None
            source = self._sources[id(graph.parameters[key])]
            names = self._weights.quantized(source, block.shape, self._quantized)
            places |= {initializer: names[part] for part, initializer in block.parts.items()}
        return places
