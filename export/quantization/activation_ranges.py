"""Ranges of what flows into the matrix products of a bundle's graphs, from real requests.

The bundle runs on ONNX Runtime as it always does; every run of a graph is shown to ONNX Runtime's
calibrator too. What is seen is therefore what a deployed model sees: kept tokens, at the keep that
is asked for, in prefill and in decode.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.engines.base import Buffer, Graph, Run
from ...runtime.engines.onnxruntime.cpu import OnnxRuntimeCpu

METHODS = ("minmax", "percentile", "entropy")
"""How a range is made of what was seen: its ends, its ends but for the rarest values, or the ends
that lose the least information."""
_DECODE_STEPS = 4
"""Steps of an answer that are looked at: each has one token, much like its neighbours'."""
_FEEDS = 6
"""Inputs of each graph that are kept, to compare what comes out with and without rounding."""


class RangeEngine(OnnxRuntimeCpu):
    """The engine ``cpu``, which notes the ranges of the graphs that it runs.

    Args:
        folder: for graphs with further outputs; as large as the weights.
        method: one of ``METHODS``.
        threads: CPU threads; None lets the engine choose.
    """

    def __init__(self, folder: Path, method: str, threads: int | None = None) -> None:
        super().__init__(threads)
        self._folder, self._method = folder, method
        self._calibrators: dict[str, Any] = {}
        self.feeds: dict[str, list[Mapping[str, np.ndarray]]] = {}
        """File name of a graph -> inputs of some of its first runs."""

    def load(self, path: Path, followed: bool = False) -> Graph:
        import onnx
        from onnxruntime import set_default_logger_severity
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

        set_default_logger_severity(3)  # calibrators make sessions that warn of every run

        graph = super().load(path, followed)
        nodes = onnx.load(str(path), load_external_data=False).graph.node
        if any(node.op_type == "MatMul" for node in nodes):
            method = {
                "minmax": CalibrationMethod.MinMax,
                "percentile": CalibrationMethod.Percentile,
                "entropy": CalibrationMethod.Entropy,
            }[self._method]
            calibrator = create_calibrator(
                path,
                ["MatMul"],
                augmented_model_path=str(self._folder / path.name),
                calibrate_method=method,
                use_external_data_format=True,
            )
            self._calibrators[path.name] = calibrator
            return _ObservedGraph(graph, calibrator, self.feeds.setdefault(path.name, []))
        return graph

    def ranges(self) -> dict[str, Any]:
        """File name of a graph -> ``TensorsData`` of ONNX Runtime's quantizer; graphs that were
        not run are left out."""
        return {
            name: calibrator.compute_data()
            for name, calibrator in self._calibrators.items()
            if self.feeds[name]
        }


class _Feed:
    """One request for a calibrator."""

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self._inputs: Mapping[str, Any] | None = inputs

    def get_next(self) -> Mapping[str, Any] | None:
        inputs, self._inputs = self._inputs, None
        return inputs


class _ObservedGraph(Graph):
    def __init__(
        self, graph: Graph, calibrator: Any, feeds: list[Mapping[str, np.ndarray]]
    ) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self._graph, self._calibrator, self._feeds = graph, calibrator, feeds

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        run = self._graph.bind(inputs, outputs)
        return _ObservedRun(run, inputs, self._calibrator, self._feeds)


class _ObservedRun(Run):
    def __init__(
        self,
        run: Run,
        inputs: Mapping[str, Buffer],
        calibrator: Any,
        feeds: list[Mapping[str, np.ndarray]],
    ) -> None:
        self._run, self._inputs, self._calibrator = run, inputs, calibrator
        self._feeds, self._left = feeds, _DECODE_STEPS

    def __call__(self) -> None:
        if self._left:
            # Copies: a cache is updated in place by the run that follows.
            feed = {name: buffer.read().copy() for name, buffer in self._inputs.items()}
            self._calibrator.collect_data(_Feed(feed))
            if len(self._feeds) < _FEEDS and self._left == _DECODE_STEPS:
                self._feeds.append(feed)
            self._left -= 1
        self._run()
