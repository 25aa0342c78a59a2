"""Engine ``reference``: the reference evaluator of the onnx package, in plain numpy."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .base import ArrayBuffer, Buffer, Engine, Graph, Run


class ReferenceEngine(Engine):
    """Slow and exact: for a look at what a graph is meant to compute."""

    name: ClassVar[str] = "reference"
    summary: ClassVar[str] = "the reference evaluator of onnx, on the CPU"
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    forms: ClassVar[tuple[str, ...]] = ()
    targets: tuple[str, ...] = ("trt10",)

    def __init__(self, threads: int | None = None) -> None:
        from onnx import __version__

        self._version = __version__

    @classmethod
    def missing(cls) -> str | None:
        return None if find_spec("onnx") else "onnx is not installed: pip install onnx"

    def versions(self) -> str:
        return f"onnx {self._version}, CPU"

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return ArrayBuffer(np.empty(shape, dtype))

    def load(self, path: Path, followed: bool = False) -> Graph:
        from onnx.reference import ReferenceEvaluator

        return _ReferenceGraph(ReferenceEvaluator(str(path)))


class _ReferenceGraph(Graph):
    def __init__(self, evaluator: Any) -> None:
        self._evaluator = evaluator
        self.inputs = tuple(evaluator.input_names)
        self.outputs = tuple(evaluator.output_names)

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        return _ReferenceRun(self._evaluator, inputs, outputs)


class _ReferenceRun(Run):
    def __init__(
        self, evaluator: Any, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> None:
        self._evaluator, self._inputs, self._outputs = evaluator, inputs, outputs

    def __call__(self) -> None:
        feeds = {name: buffer.read() for name, buffer in self._inputs.items()}
        values = self._evaluator.run(list(self._outputs), feeds)
        for buffer, value in zip(self._outputs.values(), values, strict=True):
            buffer.write(value)
