"""TensorRT's Python interface as far as the engine uses it, with ONNX Runtime in its place.

For the engine's own logic, which has no other way to run without a device: which profile, which
shapes and addresses, what is read by the host, what is captured and replayed. It is strict where
TensorRT is: shapes outside a profile, addresses that are not set, unknown names. What TensorRT
computes, and how fast, it cannot show.
"""

from __future__ import annotations

import ctypes
import enum
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from .host_memory import HostMemory

__version__ = "10.16.0"
__name__ = "stand_in"


class ILogger:
    class Severity(enum.IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1

    def __init__(self) -> None:
        pass


class IProfiler:
    def __init__(self) -> None:
        pass


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    DEVICE = 0
    HOST = 1


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    USER_MANAGED = 1


class RecordedMemory(HostMemory):
    """Host memory with a stream that can be captured: what goes to it is done, or noted."""

    capability, stream = "8.7", 1

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.captured: list[Any] | None = None
        self.replays = 0

    def submit(self, work: Any) -> None:
        """What a kernel launch is to a device."""
        if self.captured is None:
            work()
        else:
            self.captured.append(work)

    def begin_capture(self) -> None:
        assert self.captured is None
        self.captured = []

    def end_capture(self) -> Any:
        work, self.captured = self.captured, None
        return work

    def forget(self, executable: Any) -> None:
        executable.clear()

    def replay(self, executable: Any) -> None:
        self.replays += 1
        for work in executable:
            work()

    def to_host(self, array: np.ndarray, address: int) -> None:
        assert self.captured is None, "a copy to the host waits, which cannot be captured"
        super().to_host(array, address)


MEMORY = RecordedMemory()


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, data: Any) -> Any:
        text = bytes(data).decode(errors="replace")
        if not text.startswith("{"):
            self._logger.log(ILogger.Severity.ERROR, "magicTag does not match")  # type: ignore
            return None
        return Engine(json.loads(text), self._logger)


class Engine:
    """``{"graph": path, "profiles": [{name: [least, most]}], "host": [names]}``"""

    def __init__(self, made: dict[str, Any], logger: ILogger) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(made["graph"], options)
        self.profiles, self.host, self.logger = made["profiles"], set(made["host"]), logger
        self._inputs = [value.name for value in self.session.get_inputs()]
        self._outputs = [value.name for value in self.session.get_outputs()]
        self.num_io_tensors = len(self._inputs) + len(self._outputs)
        self.num_optimization_profiles = len(self.profiles)

    def get_tensor_name(self, number: int) -> str:
        return (self._inputs + self._outputs)[number]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.HOST if name in self.host else TensorLocation.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert name not in self.host
        least, most = self.profiles[profile][name]
        return [tuple(least), tuple(most), tuple(most)]

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return 1000 * (profile + 1)

    def create_execution_context(self, strategy: Any) -> Context:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self)


class Context:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._profile: int | None = None
        self._scratch = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.profiler: Any = None
        self.enqueue_emits_profile = True
        self._ran = False

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return True

    def set_device_memory(self, address: int, nbytes: int) -> None:
        MEMORY._inside(address, nbytes)
        self._scratch = nbytes

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None
        least, most = self._engine.profiles[self._profile][name]
        fits = all(a <= n <= b for a, n, b in zip(least, shape, most, strict=True))
        if fits:
            self._shapes[name] = tuple(shape)
        else:
            self._engine.logger.log(  # type: ignore[attr-defined]
                ILogger.Severity.ERROR, f"{name}: {shape} is outside of the profile"
            )
        return fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def infer_shapes(self) -> list[str]:
        engine = self._engine
        return [n for n in engine._inputs if n not in engine.host and n not in self._shapes]

    def execute_async_v3(self, stream: int) -> bool:
        engine = self._engine
        assert stream == MEMORY.stream
        assert self._profile is not None
        assert self._scratch >= engine.get_device_memory_size_for_profile_v2(self._profile)
        # As on a device, where addresses and shapes are part of what was put on the stream.
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        # Sizes on the host are read now.
        sizes = {name: _array(addresses[name], (1,), np.int64) for name in engine.host}
        MEMORY.submit(lambda: _execute(engine, shapes, addresses, sizes))
        self._ran = True
        return True

    def report_to_profiler(self) -> bool:
        """Two layers, of 1 and 2 milliseconds."""
        assert self._ran
        assert not self.enqueue_emits_profile
        for number, name in enumerate(("body", "TopKTokens"), start=1):
            self.profiler.report_layer_time(name, float(number))
        return True


def _array(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    array = np.empty(shape, dtype)
    ctypes.memmove(array.ctypes.data, address, array.nbytes)
    return array


def _execute(
    engine: Engine,
    shapes: dict[str, tuple[int, ...]],
    addresses: dict[str, int],
    sizes: dict[str, np.ndarray],
) -> None:
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
    feeds = dict(sizes)
    for value in engine.session.get_inputs():
        if value.name not in sizes:
            kind = kinds[value.type]
            feeds[value.name] = _array(addresses[value.name], shapes[value.name], kind)
    results = engine.session.run(engine._outputs, feeds)
    for name, result in zip(engine._outputs, results, strict=True):
        MEMORY._inside(addresses[name], result.nbytes)
        ctypes.memmove(addresses[name], np.ascontiguousarray(result).ctypes.data, result.nbytes)


def engine_file(graph: Path, profiles: list[dict[str, Any]], host: list[str]) -> bytes:
    """What ``Runtime`` reads in place of a plan."""
    return json.dumps({"graph": str(graph), "profiles": profiles, "host": host}).encode()
