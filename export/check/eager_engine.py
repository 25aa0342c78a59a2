"""An engine of plain PyTorch: the wrapper modules run as they are, without tracing.

What it computes is what the exported graphs have to compute. The chain of stages, caches and drops
around it is the runtime's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.utils._pytree import tree_flatten

from ...runtime.bundle.contract import is_cache
from ...runtime.engines.base import ArrayBuffer, Buffer, Engine, Graph, Run
from ..modules.graphs import WrappedGraph


class EagerGraph(Graph):
    """A wrapper module under the names of its graph."""

    def __init__(self, graph: WrappedGraph) -> None:
        self.graph = graph
        self.inputs, self.outputs = (
            tuple(tensor.name for tensor in tensors)
            for tensors in (graph.spec.inputs, graph.spec.outputs)
        )

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        return _EagerRun(self, inputs, outputs)


class _EagerRun(Run):
    def __init__(
        self, graph: EagerGraph, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    @torch.no_grad()
    def __call__(self) -> None:
        graph = self._graph.graph
        tensors = {name: torch.from_numpy(self._inputs[name].read()) for name in self._graph.inputs}
        made, _ = tree_flatten(graph.module(**graph.arguments(tensors)))
        for name, result in zip(self._graph.outputs, made, strict=True):
            # A cache was written in place.
            if not is_cache(name):
                self._outputs[name].write(result.numpy())


class EagerEngine(Engine):
    """Memory and graphs of plain PyTorch."""

    name: ClassVar[str] = "eager"
    summary: ClassVar[str] = "the PyTorch model itself"
    targets: tuple[str, ...] = ("eager",)

    def __init__(self, threads: int | None = None) -> None:
        pass

    @classmethod
    def missing(cls) -> str | None:
        return None

    def versions(self) -> str:
        return f"torch {torch.__version__}"

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return ArrayBuffer(np.empty(shape, dtype))

    def load(self, path: Path, followed: bool = False) -> Graph:
        raise NotImplementedError("eager graphs are modules, not files")
