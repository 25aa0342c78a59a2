"""Engine ``cpu``: ONNX Runtime on the processor, with I/O binding."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ....errors import EngineUnavailable, RunFailed
from ..base import ArrayBuffer, Buffer, Engine, Graph, OperatorEvent, Run
from .profile import read_profile

_OPSET_24 = (1, 24)
"""First version that knows the operator set of target ``onnx``."""
_EXACT, _WHOLE_NUMBERS = "0", "4"
"""Accuracy levels of ONNX Runtime's matrix product of few bits."""


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2])


class _HostBuffer(ArrayBuffer):
    """A numpy array that ONNX Runtime reads and writes in place."""

    def __init__(self, array: np.ndarray) -> None:
        from onnxruntime import OrtValue

        super().__init__(array)
        # On the host an OrtValue made from an array refers to the array's memory.
        self.value = OrtValue.ortvalue_from_numpy(array)


class _BoundRun(Run):
    def __init__(self, session: Any, binding: Any, buffers: list[Buffer]) -> None:
        self._session = session
        self._binding = binding
        # The binding knows addresses only: the memory must live as long as the run.
        self._buffers = buffers

    def __call__(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime raises many types, all made in C++
            raise RunFailed(OnnxRuntimeCpu.name, _first_line(error)) from error


class _Session(Graph):
    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(value.name for value in session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        binding = self._session.io_binding()
        try:
            for name, buffer in inputs.items():
                assert isinstance(buffer, _HostBuffer)
                binding.bind_ortvalue_input(name, buffer.value)
            for name, buffer in outputs.items():
                assert isinstance(buffer, _HostBuffer)
                binding.bind_ortvalue_output(name, buffer.value)
        except RuntimeError as error:
            raise RunFailed(OnnxRuntimeCpu.name, _first_line(error)) from error
        return _BoundRun(self._session, binding, [*inputs.values(), *outputs.values()])


class OnnxRuntimeCpu(Engine):
    """ONNX Runtime's CPU provider.

    Args:
        threads: CPU threads; None lets the engine choose.
        exact: multiply quantized weights in float32. Otherwise activations are rounded to 8 bits,
            block by block, and the products are of whole numbers: that is several times faster.
    """

    name: ClassVar[str] = "cpu"
    summary: ClassVar[str] = "ONNX Runtime on the CPU"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")
    forms: ClassVar[tuple[str, ...]] = ("int8", "int4-awq")
    targets: tuple[str, ...] = ("ort", "onnx", "trt10")

    def __init__(self, threads: int | None = None, exact: bool = False) -> None:
        import onnxruntime

        self._ort = onnxruntime
        if _version(onnxruntime.__version__) < _OPSET_24:
            self.targets = ("ort", "trt10")
        self._threads = threads
        self._accuracy = _EXACT if exact else _WHOLE_NUMBERS
        self._profiles: Path | None = None
        self._noting: list[tuple[str, Any]] = []

    def exact(self) -> OnnxRuntimeCpu | None:
        if self._accuracy == _EXACT:
            return None
        return OnnxRuntimeCpu(self._threads, exact=True)

    def profiled(self, folder: Path) -> OnnxRuntimeCpu:
        noting = OnnxRuntimeCpu(self._threads, exact=self._accuracy == _EXACT)
        noting._profiles = folder
        return noting

    def operators(self) -> list[OperatorEvent]:
        noting, self._noting = self._noting, []
        return [event for name, session in noting for event in read_profile(session, name)]

    @classmethod
    def missing(cls) -> str | None:
        if find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install 'vtp-toolkit[cpu]'"
        return None

    def versions(self) -> str:
        return f"onnxruntime {self._ort.__version__}, CPU"

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return _HostBuffer(np.empty(shape, dtype))

    def load(self, path: Path, followed: bool = False) -> Graph:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads or 0
        if followed:
            # Each session has threads of its own, which spin for a while after a run, and would
            # take the cores from the session that runs next.
            options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", self._accuracy)
        if self._accuracy == _EXACT:
            # Numbers of 8 bits are multiplied as the floats that they stand for.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        if self.frugal:
            # Optimised, a float16 graph holds its weights in float32 beside those of the file.
            options.graph_optimization_level = self._ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.enable_cpu_mem_arena = False
            options.execution_order = self._ort.ExecutionOrder.PRIORITY_BASED
            options.add_session_config_entry("session.disable_prepacking", "1")
        if self._profiles is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(self._profiles / path.name)
        options.log_severity_level = 4  # errors come as exceptions, and are told once
        try:
            session = self._ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises many types, all made in C++
            raise EngineUnavailable(
                self.name,
                f"onnxruntime {self._ort.__version__} refuses {path.name}: {_first_line(error)}",
            ) from error
        if self._profiles is not None:
            self._noting.append((path.name, session))
        return _Session(session)
