"""Engines ``tensorrt`` and ``tensorrt-rtx``: what ``vtp build`` made, on an NVIDIA device.

Only what all versions from 10.0 on and TensorRT-RTX share is used. Not yet run on a device.
"""

from __future__ import annotations

import mmap
import time
import weakref
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ....errors import EngineUnavailable, RunFailed
from ...bundle.bundle import Bundle
from ...bundle.contract import is_language
from ...bundle.manifest import Manifest
from ...bundle.sources import Source, VariantSource
from .. import cuda_memory
from ..base import Buffer, Engine, Graph, OperatorEvent, Run
from ..cuda_memory import DEVICE_LOCK, DeviceBuffer, shared_cuda
from ..device import Device
from .fit import Here, misfit
from .flavours import FLAVOURS, machine

_CALLS_BEFORE_CAPTURE = 1
"""The first call of a shape lets the library do what cannot be captured."""


def _logger(trt: Any) -> Any:
    class FirstError(trt.ILogger):
        """Keeps the first error of a call, to be told once, as ours."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.first: str | None = None

        def log(self, severity: Any, message: str) -> None:
            grave = (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR)
            if severity in grave and self.first is None:
                self.first = " ".join(message.split())

        def take(self, otherwise: str) -> str:
            """The first error since the last time, or a text in its place."""
            said, self.first = self.first, None
            return said or otherwise

    return FirstError()


def _layer_times(trt: Any) -> Any:
    class LayerTimes(trt.IProfiler):
        """Takes the time of each layer, in the order in which they ran."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.taken: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            self.taken.append((layer_name, ms))

    return LayerTimes()


class _Library:
    """What the graphs of an engine share: module, logger, device, scratch memory."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trt: Any = FLAVOURS[name].load()
        self.cuda = shared_cuda(name)
        self.logger = _logger(self.trt)
        self.runtime = self.trt.Runtime(self.logger)
        self.captures_itself = hasattr(self.trt, "CudaGraphStrategy")
        """Whether the library makes CUDA graphs by itself (TensorRT-RTX)."""
        self._scratch: DeviceBuffer | None = None
        self._scratch_bytes = 0

    def failed(self, otherwise: str) -> RunFailed:
        """The error for a call that went wrong."""
        return RunFailed(self.name, self.logger.take(otherwise))

    def need_scratch(self, nbytes: int) -> None:
        """Note how much memory a graph works in; graphs run one after the other and share it."""
        self._scratch_bytes = max(self._scratch_bytes, nbytes)

    @property
    def scratch(self) -> DeviceBuffer:
        """Memory to work in, large enough for every graph that was loaded."""
        if self._scratch is None or self._scratch.nbytes < self._scratch_bytes:
            self._scratch = DeviceBuffer(self.cuda, (max(self._scratch_bytes, 1),), "uint8")
        return self._scratch


@cache
def _library(name: str) -> _Library:
    """One for all bundles of a process: the libraries take one logger only."""
    return _Library(name)


class _BoundRun(Run):
    """A graph bound to buffers: the first call runs it, later ones replay it as a CUDA graph."""

    def __init__(
        self, graph: _BuiltGraph, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> None:
        self._graph = graph
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        self._profile = graph.profile_for({name: b.shape for name, b in inputs.items()})
        self._calls = 0
        self._replayed: Any = None
        self._scratch: DeviceBuffer | None = None
        self._read_by_host: list[np.ndarray] = []

    def __call__(self) -> None:
        graph, cuda = self._graph, self._graph.library.cuda
        if self._replayed is not None:
            cuda.replay(self._replayed)
            return
        # A context holds one set of addresses: those of the run that is called.
        graph.library.logger.first = None
        context, self._read_by_host = graph.prepare(self._profile, self._inputs, self._outputs)
        if graph.layers is not None:
            graph.run_noting(context)
            return
        if self._calls == _CALLS_BEFORE_CAPTURE and graph.replayable:
            self._replayed = self._captured(context)
        self._calls += 1
        if self._replayed is not None:
            cuda.replay(self._replayed)
        elif not context.execute_async_v3(cuda.stream):
            raise graph.library.failed("a graph could not be put on the stream")

    def _captured(self, context: Any) -> Any:
        """The run as a CUDA graph; None where the library does what cannot be captured."""
        cuda = self._graph.library.cuda
        cuda.begin_capture()
        done = False
        try:
            done = context.execute_async_v3(cuda.stream)
        finally:
            captured = cuda.end_capture()
        if captured is not None:
            weakref.finalize(self, cuda.forget, captured)
            # Its address is part of what was captured; the library may go on to a larger one.
            self._scratch = self._graph.library.scratch
        if not done or captured is None:
            self._graph.replayable = False
            return None
        return captured


class _BuiltGraph(Graph):
    """An engine that was deserialized."""

    def __init__(
        self, library: _Library, engine: Any, name: str, noted: list[OperatorEvent] | None = None
    ) -> None:
        trt = library.trt
        self.library = library
        self._name, self._noted = name, noted
        self.layers = None if noted is None else _layer_times(trt)
        """Where layers report their times, in an engine from ``profiled``."""
        self._engine = engine
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        modes = {name: engine.get_tensor_mode(name) for name in names}
        self.inputs = tuple(n for n in names if modes[n] == trt.TensorIOMode.INPUT)
        self.outputs = tuple(n for n in names if modes[n] == trt.TensorIOMode.OUTPUT)
        self._on_host = {
            n for n in names if engine.get_tensor_location(n) == trt.TensorLocation.HOST
        }
        self._contexts: dict[int, Any] = {}
        # Sizes that the host gives, and Python code within a graph, cannot be replayed; what is
        # replayed reports no layers.
        self._repeats = is_language(name) and not self._on_host and noted is None
        self._bounds: list[dict[str, tuple[Any, Any]]] = []
        for profile in range(engine.num_optimization_profiles):
            library.need_scratch(engine.get_device_memory_size_for_profile_v2(profile))
            shapes = {
                name: engine.get_tensor_profile_shape(name, profile)
                for name in self.inputs
                if name not in self._on_host
            }
            self._bounds.append({name: (least, most) for name, (least, _, most) in shapes.items()})
        # TensorRT-RTX compiles kernels while it runs, and captures by itself when they are ready.
        self.replayable = self._repeats and not library.captures_itself

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        return _BoundRun(self, inputs, outputs)

    def profile_for(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """The last profile that takes these shapes: that of decode comes behind that of prefill.

        Raises:
            RunFailed: none does.
        """
        for profile in reversed(range(len(self._bounds))):
            bounds = self._bounds[profile]
            if all(
                least <= size <= most
                for name in bounds
                for least, size, most in zip(
                    bounds[name][0], shapes[name], bounds[name][1], strict=True
                )
            ):
                return profile
        raise RunFailed(self.library.name, f"no profile of the engine takes the shapes {shapes}")

    def prepare(
        self, profile: int, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> tuple[Any, list[np.ndarray]]:
        """A context with shapes and addresses set, and the host memory that it will read."""
        context, kept = self._context(profile), list[np.ndarray]()
        scratch = self.library.scratch
        context.set_device_memory(scratch.address, scratch.nbytes)
        placed = []
        for name, buffer in inputs.items():
            assert isinstance(buffer, DeviceBuffer)
            address = buffer.address
            if name in self._on_host:
                kept.append(buffer.read())
                address = kept[-1].ctypes.data
            elif not context.set_input_shape(name, buffer.shape):
                raise self.library.failed(f"{name} of shape {buffer.shape} is refused")
            placed.append(context.set_tensor_address(name, address))
        for name, buffer in outputs.items():
            assert isinstance(buffer, DeviceBuffer)
            placed.append(context.set_tensor_address(name, buffer.address))
        try:
            unknown = context.infer_shapes()
        except RuntimeError as error:
            raise self.library.failed(str(error)) from error
        if unknown or not all(placed):
            raise self.library.failed(f"shapes of {', '.join(unknown)} are not known")
        return context, kept

    def run_noting(self, context: Any) -> None:
        """Run, wait, and note what each layer took."""
        cuda, layers = self.library.cuda, self.layers
        context.profiler, context.enqueue_emits_profile = layers, False
        started_ns = time.time_ns()
        if not context.execute_async_v3(cuda.stream):
            raise self.library.failed("a graph could not be put on the stream")
        cuda.synchronize()
        context.report_to_profiler()
        assert layers is not None
        assert self._noted is not None
        taken, layers.taken = layers.taken, []
        for layer, ms in taken:
            # A layer's name holds those of the nodes that it was made of; it has no type to ask.
            self._noted.append(
                OperatorEvent(
                    graph=self._name, operator=layer, node=layer, start_ns=started_ns, ms=ms
                )
            )
            started_ns += int(ms * 1e6)

    def _context(self, profile: int) -> Any:
        if profile not in self._contexts:
            context = self._new_context()
            if context is None:
                raise self.library.failed("no execution context could be made")
            cuda = self.library.cuda
            context.set_optimization_profile_async(profile, cuda.stream)
            cuda.synchronize()
            self._contexts[profile] = context
        return self._contexts[profile]

    def _new_context(self) -> Any:
        trt, engine = self.library.trt, self._engine
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not (self.library.captures_itself and self._repeats):
            return engine.create_execution_context(strategy)
        settings = engine.create_runtime_config()
        settings.set_execution_context_allocation_strategy(strategy)
        settings.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        return engine.create_execution_context(settings)


class TensorRt(Engine):
    """TensorRT: Jetson boards and data-centre cards."""

    name: ClassVar[str] = "tensorrt"
    summary: ClassVar[str] = "TensorRT engines, built by vtp build on this device"
    targets: tuple[str, ...] = ("onnx", "trt10")

    def __init__(self, threads: int | None = None) -> None:
        self._library = _library(self.name)
        self._plugin = False
        self._noted: list[OperatorEvent] | None = None

    @classmethod
    def missing(cls) -> str | None:
        flavour = FLAVOURS[cls.name]
        if not flavour.installed():
            return f"the module {flavour.module} is not installed: {flavour.install}"
        return cuda_memory.missing()

    @classmethod
    def refuses(cls, manifest: Manifest) -> str | None:
        if any(variant.engine == cls.name for variant in manifest.variants):
            return None
        return f"the bundle holds no engines for it: vtp build DIR --engine {cls.name}"

    def choices(self, manifest: Manifest) -> list[str]:
        return [variant.name for variant in manifest.variants if variant.engine == self.name]

    def source(self, bundle: Bundle, choice: str | None = None) -> Source:
        """The engines of the variant that fits this device.

        Raises:
            VariantMissing: there is none for this engine, or none of that name.
            VariantMismatch: there are some, for another version, machine, card or plugin.
        """
        library = self._library
        here = Here(
            version=str(library.trt.__version__),
            machine=machine(),
            capability=library.cuda.capability,
        )
        variant = VariantSource.choose(
            bundle, self.name, choice, lambda bundle, variant: misfit(bundle, variant, here)
        )
        if variant.plugin is not None and not self._plugin:
            from ....trt_plugins.plugin import register

            register(library.trt)
            self._plugin = True
        return VariantSource(bundle, variant)

    def versions(self) -> str:
        library = self._library
        cuda = library.cuda
        return (
            f"{self.name} {library.trt.__version__}, {cuda.name} (compute capability "
            f"{cuda.capability}), CUDA driver {cuda.version()}"
        )

    def lock(self) -> AbstractContextManager[Any]:
        return DEVICE_LOCK

    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return DeviceBuffer(self._library.cuda, shape, dtype)

    def profiled(self, folder: Path) -> Engine:
        noting = type(self)()
        noting._noted = []
        return noting

    def operators(self) -> list[OperatorEvent]:
        noted, self._noted = self._noted or [], []
        return noted

    def device(self) -> Device | None:
        return self._library.cuda

    def load(self, path: Path, followed: bool = False) -> Graph:
        library = self._library
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            engine = library.runtime.deserialize_cuda_engine(data)
        if engine is None:
            reason = library.logger.take("no reason given")
            raise EngineUnavailable(self.name, f"it refuses {path.name}: {reason}")
        return _BuiltGraph(library, engine, path.name, self._noted)


class TensorRtRtx(TensorRt):
    """TensorRT-RTX: GeForce and RTX cards; engines may come from a machine without one."""

    name: ClassVar[str] = "tensorrt-rtx"
    summary: ClassVar[str] = "TensorRT-RTX engines, built by vtp build"
    targets: tuple[str, ...] = ("onnx",)
