"""Engine ``cuda``: ONNX Runtime's CUDA provider, its inputs and outputs bound on the device.

Not yet run on a device; the binding is tested on host memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from ....errors import EngineUnavailable, RunFailed
from ...bundle.bundle import Bundle
from ...bundle.sources import GraphSource, Source
from .. import cuda_memory
from ..base import Buffer, Engine, Graph, Run
from ..cuda_memory import DEVICE_LOCK, Cuda, DeviceBuffer, shared_cuda
from ..device import Device

_PROVIDER = "CUDAExecutionProvider"
_INSTALL = "pip uninstall onnxruntime && pip install 'vtp-toolkit[gpu]'"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or repr(error)).splitlines()[0]


class _BoundRun(Run):
    """A session bound to buffers.

    ONNX Runtime copies an input that is consumed elsewhere than it lies when it is bound, not when
    the graph runs; such inputs are bound again for every run.
    """

    def __init__(
        self, owner: _Session, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> None:
        self._owner = owner
        self._session = owner.session
        # The binding knows addresses only: the memory must live as long as the run.
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        self._binding = owner.session.io_binding()
        for name, buffer in self._outputs.items():
            self._bind(self._binding.bind_output, name, buffer)
        for name, buffer in self._inputs.items():
            if name not in owner.consumed_elsewhere:
                self._bind(self._binding.bind_input, name, buffer)

    def _bind(self, bind: Callable[..., None], name: str, buffer: Buffer) -> None:
        assert isinstance(buffer, DeviceBuffer)
        place = (self._owner.device, 0, buffer.dtype, list(buffer.shape), buffer.address)
        try:
            bind(name, *place)
        except RuntimeError as error:
            raise RunFailed(OnnxRuntimeCuda.name, _first_line(error)) from error

    def __call__(self) -> None:
        if self._owner.consumed_elsewhere:
            self._owner.memory.synchronize()
        for name in self._owner.consumed_elsewhere & self._inputs.keys():
            self._bind(self._binding.bind_input, name, self._inputs[name])
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime raises many types, all made in C++
            raise RunFailed(OnnxRuntimeCuda.name, _first_line(error)) from error


class _Session(Graph):
    def __init__(self, session: Any, device: str, memory: Cuda) -> None:
        self.session, self.device, self.memory = session, device, memory
        self.inputs = tuple(value.name for value in session.get_inputs())
        self.outputs = tuple(value.name for value in session.get_outputs())
        self.consumed_elsewhere = set(self.inputs)
        """Inputs of nodes that run on another device; all, where ONNX Runtime cannot tell."""
        if hasattr(session, "get_input_memory_infos"):
            places = zip(self.inputs, session.get_input_memory_infos(), strict=True)
            self.consumed_elsewhere = {
                name for name, place in places if place.name.lower() != device
            }

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        return _BoundRun(self, inputs, outputs)


class OnnxRuntimeCuda(Engine):
    """ONNX Runtime's CUDA provider; an operator that it lacks runs on the processor."""

    name: ClassVar[str] = "cuda"
    summary: ClassVar[str] = "ONNX Runtime on an NVIDIA device (onnxruntime-gpu)"
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float16")
    forms: ClassVar[tuple[str, ...]] = ("int8", "int4-awq")
    targets: tuple[str, ...] = ("ort", "onnx")
    _device: ClassVar[str] = "cuda"
    """Where the buffers are, in ONNX Runtime's word."""

    def __init__(self, threads: int | None = None) -> None:
        import onnxruntime

        self._ort = onnxruntime
        self._threads = threads
        self._memory = self._make_memory()

    def _make_memory(self) -> Cuda:
        # Finds the CUDA libraries that pip installed beside it.
        if hasattr(self._ort, "preload_dlls"):
            # It tells what it misses on stdout, which belongs to the answer.
            with redirect_stdout(sys.stderr):
                self._ort.preload_dlls()
        return shared_cuda(self.name)

    @classmethod
    def missing(cls) -> str | None:
        if find_spec("onnxruntime") is None:
            return "onnxruntime-gpu is not installed: pip install 'vtp-toolkit[gpu]'"
        import onnxruntime

        if _PROVIDER not in onnxruntime.get_available_providers():
            return f"the installed onnxruntime has no CUDA provider: {_INSTALL}"
        return cuda_memory.missing()

    def source(self, bundle: Bundle, choice: str | None = None) -> Source:
        # The fused attention of target ort has no float32 kernel there.
        whole = bundle.manifest.language.dtype == "float32"
        order = tuple(sorted(self.targets, reverse=not whole))
        return GraphSource.choose(bundle, order, choice)

    def versions(self) -> str:
        memory = self._memory
        return (
            f"onnxruntime {self._ort.__version__}, {memory.name} (compute capability "
            f"{memory.capability}), CUDA driver {memory.version()}"
        )

    def lock(self) -> AbstractContextManager[Any]:
        return DEVICE_LOCK

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return DeviceBuffer(self._memory, shape, dtype)

    def device(self) -> Device | None:
        return self._memory

    def _providers(self) -> list[Any]:
        settings = {
            "device_id": "0",
            "user_compute_stream": str(self._memory.stream),
            # float32 means float32.
            "use_tf32": "0",
        }
        return [(_PROVIDER, settings), "CPUExecutionProvider"]

    def load(self, path: Path, followed: bool = False) -> Graph:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self._threads or 0
        options.log_severity_level = 4  # errors come as exceptions, and are told once
        providers = self._providers()
        try:
            session = self._ort.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # ONNX Runtime raises many types, all made in C++
            raise EngineUnavailable(
                self.name,
                f"onnxruntime {self._ort.__version__} refuses {path.name}: {_first_line(error)}",
            ) from error
        wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
        # Where a provider's libraries are missing, ONNX Runtime goes on without it.
        if wanted not in session.get_providers():
            raise EngineUnavailable(
                self.name, f"onnxruntime could not start its CUDA provider: {_INSTALL}[cuda,cudnn]"
            )
        return _Session(session, self._device, self._memory)
