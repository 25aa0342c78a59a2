"""Memory of a CUDA device, and the one stream on which an engine works.

Everything an engine does goes to one stream, in order: a run that is bound to a buffer sees what
was written before, and a block that is freed may be given out again at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from threading import RLock
from typing import Any

import numpy as np

from ...errors import EngineUnavailable, RunFailed
from .base import Buffer
from .device import Device, DeviceClock

_ALIGNMENT = 512
_MOST_FREE = 2**28
"""Bytes of blocks that are kept though nobody uses them."""
_MOST_ON_THE_WAY = 64
"""Copies to the device between two waits."""
DEVICE_LOCK = RLock()
"""Held while a bundle works on the device: all of a process share its stream, its blocks and the
libraries' execution contexts."""
INSTALL = "pip install cuda-bindings (on JetPack 6: pip install cuda-bindings==12.8.0)"


def missing() -> str | None:
    """Why CUDA cannot be used here, with the way out; None if it can."""
    if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
        return f"the module cuda.bindings is not installed: {INSTALL}"
    from cuda.bindings import runtime

    bindings = f"cuda-bindings {version('cuda-bindings')}"
    try:
        status, count = runtime.cudaGetDeviceCount()
    except RuntimeError as error:  # some versions look for the driver only now
        return f"CUDA finds no driver ({bindings}: {error})"
    if status != runtime.cudaError_t.cudaSuccess:
        return (
            f"CUDA finds no device ({bindings}: {status.name}); the driver may be missing, or "
            f"older than the bindings: {INSTALL}"
        )
    return None if count else "CUDA finds no device"


@cache
def shared_cuda(engine: str) -> Cuda:
    """One for all bundles that an engine loads in this process."""
    return Cuda(engine)


class Cuda(Device):
    """The device that is current in this process."""

    def __init__(self, engine: str) -> None:
        reason = missing()
        if reason is not None:
            raise EngineUnavailable(engine, reason)
        from cuda.bindings import runtime

        self._runtime: Any = runtime
        self._engine = engine
        # Buffers come back from whichever thread drops them last.
        self._guard = RLock()
        self._free: dict[int, list[int]] = {}
        self._free_bytes = 0
        self._on_the_way: list[np.ndarray] = []
        device = self._call("cudaGetDevice")
        properties = self._call("cudaGetDeviceProperties", device)
        self.name: str = properties.name.split(b"\0")[0].decode()
        self.capability = f"{properties.major}.{properties.minor}"
        """Compute capability, such as ``8.7``."""
        self.unified = bool(properties.integrated)
        self._number = device
        self.stream = int(self._call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking))

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self._runtime, name)(*arguments)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise RunFailed(self._engine, f"{name} returned {status.name}")
        return values[0] if values else None

    def version(self) -> str:
        """Of the driver, such as ``13.0``."""
        number = self._call("cudaDriverGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    def allocate(self, nbytes: int) -> int:
        """Address of a block of at least ``nbytes`` bytes.

        Raises:
            RunFailed: the device has no memory left.
        """
        size = _rounded(nbytes)
        with self._guard:
            if self._free.get(size):
                self._free_bytes -= size
                return self._free[size].pop()
        status, address = self._runtime.cudaMalloc(size)
        if status == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            self.synchronize()
            self.give_back()
            status, address = self._runtime.cudaMalloc(size)
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise RunFailed(
                self._engine,
                f"no {size / 1e6:.0f} MB of device memory are free ({status.name}): lower keep, "
                "--max-tokens or the number of images, or close other programs",
            )
        return int(address)

    def free(self, address: int, nbytes: int) -> None:
        """Take a block back; it is kept for the next request of its size, up to a limit."""
        size = _rounded(nbytes)
        with self._guard:
            self._free.setdefault(size, []).append(address)
            self._free_bytes += size
            too_many = self._free_bytes > _MOST_FREE
        if too_many:
            self.give_back()

    def give_back(self) -> None:
        """Return all blocks that nobody uses to the device, which waits until it is idle."""
        # Blocks may come back while these go.
        with self._guard:
            blocks, self._free, self._free_bytes = self._free, {}, 0
        for addresses in blocks.values():
            for address in addresses:
                self._runtime.cudaFree(address)

    def to_device(self, address: int, array: np.ndarray) -> None:
        """Copy a contiguous array to the device; it may be changed when this returns."""
        # On some machines the device reads the host's memory itself, and later.
        sent = array.copy()
        self._on_the_way.append(sent)
        self._copy(address, sent.ctypes.data, sent.nbytes, "cudaMemcpyHostToDevice")
        if len(self._on_the_way) > _MOST_ON_THE_WAY:
            self.synchronize()

    def to_host(self, array: np.ndarray, address: int) -> None:
        """Copy from the device into a contiguous array; it is there when this returns."""
        self._copy(array.ctypes.data, address, array.nbytes, "cudaMemcpyDeviceToHost")
        self.synchronize()

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """Copy within the device."""
        self._copy(target, source, nbytes, "cudaMemcpyDeviceToDevice")

    def _copy(self, target: int, source: int, nbytes: int, kind: str) -> None:
        if nbytes:
            kind = getattr(self._runtime.cudaMemcpyKind, kind)
            self._call("cudaMemcpyAsync", target, source, nbytes, kind, self.stream)

    def zero(self, address: int, nbytes: int) -> None:
        """Fill a block with zero bytes."""
        self._call("cudaMemsetAsync", address, 0, nbytes, self.stream)

    def synchronize(self) -> None:
        """Wait until everything that was asked for is done."""
        self._call("cudaStreamSynchronize", self.stream)
        self._on_the_way.clear()

    def elapsed_ms(self, work: Callable[[], None], times: int) -> float:
        """Milliseconds that the device takes for ``times`` calls of ``work``, by its own clock."""
        begin, end = (self._call("cudaEventCreate") for _ in range(2))
        self._call("cudaEventRecord", begin, self.stream)
        for _ in range(times):
            work()
        self._call("cudaEventRecord", end, self.stream)
        self._call("cudaEventSynchronize", end)
        taken: float = self._call("cudaEventElapsedTime", begin, end)
        for event in (begin, end):
            self._call("cudaEventDestroy", event)
        return taken

    def clock(self) -> DeviceClock:
        return EventClock(self)

    def bus_id(self) -> str:
        length = 32
        found: bytes = self._call("cudaDeviceGetPCIBusId", length, self._number)
        return found.split(b"\0")[0].decode()

    def memory_used(self) -> int:
        status, free, total = self._runtime.cudaMemGetInfo()
        if status != self._runtime.cudaError_t.cudaSuccess:
            raise RunFailed(self._engine, f"cudaMemGetInfo returned {status.name}")
        return int(total) - int(free)

    def event(self) -> Any:
        """An event that can be recorded again and again."""
        return self._call("cudaEventCreate")

    def record(self, event: Any) -> None:
        """Let an event be the moment at which everything asked for so far is done."""
        self._call("cudaEventRecord", event, self.stream)

    def between_ms(self, begin: Any, end: Any) -> float:
        """Milliseconds between two events, once the later one has come."""
        self._call("cudaEventSynchronize", end)
        taken: float = self._call("cudaEventElapsedTime", begin, end)
        return taken

    def forget_event(self, event: Any) -> None:
        """Free an event."""
        self._runtime.cudaEventDestroy(event)

    def begin_capture(self) -> None:
        """From now on note what goes to the stream, instead of doing it."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.stream, mode)

    def end_capture(self) -> Any:
        """What was noted, ready for ``replay``; None where it cannot be."""
        success = self._runtime.cudaError_t.cudaSuccess
        status, graph = self._runtime.cudaStreamEndCapture(self.stream)
        if status != success:
            return None
        status, executable = self._runtime.cudaGraphInstantiate(graph, 0)
        self._call("cudaGraphDestroy", graph)
        return executable if status == success else None

    def forget(self, executable: Any) -> None:
        """Free what ``end_capture`` gave."""
        self._runtime.cudaGraphExecDestroy(executable)

    def replay(self, executable: Any) -> None:
        """Do what was noted."""
        self._call("cudaGraphLaunch", executable, self.stream)


class EventClock(DeviceClock):
    """Moments on the stream of a device, by events that are kept for the next request.

    Args:
        cuda: the device; a ``Cuda``.
    """

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._events: list[Any] = []
        self._used = 0
        weakref.finalize(self, _forget_all, cuda, self._events)

    def stamp(self) -> None:
        if self._used == len(self._events):
            self._events.append(self._cuda.event())
        self._cuda.record(self._events[self._used])
        self._used += 1

    def read_ms(self) -> list[float]:
        stamped, self._used = self._events[: self._used], 0
        return [self._cuda.between_ms(stamped[0], event) for event in stamped]


def _forget_all(cuda: Cuda, events: list[Any]) -> None:
    for event in events:
        cuda.forget_event(event)


def _rounded(nbytes: int) -> int:
    return max(1, -(-nbytes // _ALIGNMENT)) * _ALIGNMENT


class DeviceBuffer(Buffer):
    """A buffer in device memory.

    Args:
        memory: whose memory; a ``Cuda``.
        shape: its shape.
        dtype: numpy name of its type.
    """

    def __init__(self, memory: Cuda, shape: tuple[int, ...], dtype: str) -> None:
        self.shape = shape
        # numpy has no bfloat16; such a buffer is only passed from graph to graph.
        self.dtype = np.dtype("uint16" if dtype == "bfloat16" else dtype)
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize
        self._memory = memory
        self.address = memory.allocate(self.nbytes)
        self._whole: DeviceBuffer | None = None
        weakref.finalize(self, memory.free, self.address, self.nbytes)

    def rows(self, start: int, stop: int) -> Buffer:
        row = self.nbytes // max(self.shape[1], 1)
        view = DeviceBuffer.__new__(DeviceBuffer)
        view.shape = (self.shape[0], stop - start, *self.shape[2:])
        view.dtype, view._memory = self.dtype, self._memory
        view.nbytes, view.address = (stop - start) * row, self.address + start * row
        view._whole = self  # whose memory it is
        return view

    def write(self, values: np.ndarray) -> None:
        if not np.any(values) and np.ndim(values) == 0:
            self._memory.zero(self.address, self.nbytes)
            return
        whole = np.broadcast_to(np.asarray(values, self.dtype), self.shape)
        self._memory.to_device(self.address, np.ascontiguousarray(whole))

    def read(self) -> np.ndarray:
        array = np.empty(self.shape, self.dtype)
        self._memory.to_host(array, self.address)
        return array

    def write_rows(self, at: int, rows: np.ndarray) -> None:
        packed = np.ascontiguousarray(rows, self.dtype)
        self._memory.to_device(self.address + at * self._row_bytes, packed)

    def copy_rows(self, at: int, source: Buffer, start: int, count: int) -> None:
        assert isinstance(source, DeviceBuffer)
        size = self._row_bytes
        self._memory.copy(self.address + at * size, source.address + start * size, count * size)

    @property
    def _row_bytes(self) -> int:
        return self.shape[-1] * self.dtype.itemsize
