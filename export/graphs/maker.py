"""The graphs of a model, traced once into neutral form, over one weight file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from torch import nn

from ...errors import GraphNotLowered
from ...runtime.bundle.contract import VISION_SIDE
from ...runtime.bundle.manifest import WeightsRecord
from ..families.base import Family
from ..modules.graphs import WrappedGraph
from ..passes.block_weights import dequantize_matrices, matrices_for_matmul
from ..passes.static_reshape import make_reshapes_static
from ..passes.tidy import tidy
from ..passes.transposed_weights import pull_transposes
from ..source.checkpoint import Checkpoint
from ..weights.weight_file import WeightFile
from .neutral import NeutralGraph
from .tracing import trace, unknown_values


class GraphMaker:
    """Makes the graphs of one model into one weight file.

    Args:
        family: the model's family.
        model: the transformers model on fake tensors.
        checkpoint: knows which tensors exist.
        weights: collects what the graphs need.
        quantized: how the language side's matrices are stored; None: as everything else.
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

    def make(self, graph: WrappedGraph) -> NeutralGraph:
        """Trace a graph and give its constants a place in the file.

        Raises:
            GraphNotLowered: a constant whose value is not known.
        """
        name, module, tables = graph.spec.name, graph.module, graph.tables
        model = trace(graph)
        tidy(model)
        make_reshapes_static(model)
        transposed = pull_transposes(model)
        tidy(model)
        places: dict[str, str] = {}
        parameters = dict(module.named_parameters(remove_duplicate=False))
        if self._quantized is not None and name not in VISION_SIDE:
            transposed |= matrices_for_matmul(model)
            places |= self._quantize(model, transposed, parameters, self._quantized)
        buffers = dict(module.named_buffers(remove_duplicate=False))
        for key in unknown_values(model):
            if key in places:
                continue
            shape = tuple(int(dim) for dim in model.graph.initializers[key].shape or ())
            table = key.rpartition(".")[2]
            if table in tables:
                places[key] = self._weights.table(table, tables[table])
            elif key in parameters:
                source = self._sources[id(parameters[key])]
                places[key] = self._weights.weight(source, shape, key in transposed)
            elif key in buffers and id(buffers[key]) in self._buffers:
                table, values = self._buffers[id(buffers[key])]
                places[key] = self._weights.table(table, values, exact=True)
            else:
                raise GraphNotLowered(name, f"constant {key!r} has no known value")
        return NeutralGraph(
            name=name,
            model=model,
            weights=places,
            norms=graph.norms,
            rotates=graph.rotates,
            gapless=graph.gapless,
            sections=graph.sections,
        )

    def _quantize(
        self,
        model: ir.Model,
        transposed: set[str],
        parameters: Mapping[str, nn.Parameter],
        how: WeightsRecord,
    ) -> dict[str, str]:
        """Quantize the graph's matrices; where their parts are in the file."""
        places: dict[str, str] = {}
        waiting = [key for key in unknown_values(model) if key in transposed & parameters.keys()]
        shapes = {key: model.graph.initializers[key].shape for key in waiting}
        for key, parts in dequantize_matrices(model, waiting, how).items():
            inputs, outputs = (int(dim) for dim in shapes[key] or ())
            source = self._sources[id(parameters[key])]
            names = self._weights.quantized(source, (inputs, outputs), how)
            places |= {initializer: names[part] for part, initializer in parts.items()}
        return places
