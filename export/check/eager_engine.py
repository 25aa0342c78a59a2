"""An engine of plain PyTorch: the wrapper modules run as they are, without tracing.

What it computes is what the exported graphs have to compute. The chain of stages, caches and drops
around it is the runtime's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from ...runtime.engines.base import ArrayBuffer, Buffer, Engine, Graph, Run


class EagerGraph(Graph):
    """A wrapper module under the names of its graph's ends.

    Args:
        module: ``VisionGraph``, ``LanguageStage``, ``GuideStage``, ``DropGraph`` or
            ``RaterChoice``.
        inputs: names, the caches left out.
        outputs: names, the caches left out.
        layers: layers whose cache is passed through.
    """

    def __init__(
        self, module: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...], layers: int = 0
    ) -> None:
        self.module = module
        self.inputs, self.outputs = inputs, outputs
        self._layers = layers

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        return _EagerRun(self, self._layers, inputs, outputs)


class _EagerRun(Run):
    def __init__(
        self,
        graph: EagerGraph,
        layers: int,
        inputs: Mapping[str, Buffer],
        outputs: Mapping[str, Buffer],
    ) -> None:
        self._graph, self._layers = graph, layers
        self._inputs, self._outputs = inputs, outputs

    @torch.no_grad()
    def __call__(self) -> None:
        tensors = {name: torch.from_numpy(b.read()) for name, b in self._inputs.items()}
        arguments: dict[str, Any] = {name: tensors[name] for name in self._graph.inputs}
        if self._layers:
            states = "inputs_embeds" if "inputs_embeds" in arguments else "hidden_states"
            arguments["hidden"] = arguments.pop(states)
            arguments["past"] = [
                tuple(tensors[f"past_key_values.{layer}.{kind}"] for kind in ("key", "value"))
                for layer in range(self._layers)
            ]
        made = self._graph.module(**arguments)
        results = made if isinstance(made, tuple) else (made,)
        for name, result in zip(self._graph.outputs, results, strict=False):
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
