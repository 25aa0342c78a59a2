"""Host memory in the place of a CUDA device's, by address: for what cannot run here otherwise."""

from __future__ import annotations

import ctypes
from time import perf_counter
from typing import Any

import numpy as np

from vtp.runtime.engines.cuda_memory import EventClock


class HostMemory:
    """What ``DeviceBuffer`` asks of a ``Cuda``; every address must lie in a block that is used."""

    name, capability, stream = "host", "0.0", 0
    unified = True

    def __init__(self, *_: Any) -> None:
        self.blocks: dict[int, np.ndarray] = {}

    def version(self) -> str:
        return "none"

    def allocate(self, nbytes: int) -> int:
        # Not zero: what is read before it is written shows.
        block = np.full(max(nbytes, 1), 0xA5, np.uint8)
        self.blocks[block.ctypes.data] = block
        return block.ctypes.data

    def free(self, address: int, nbytes: int) -> None:
        del self.blocks[address]

    def give_back(self) -> None:
        pass

    def to_device(self, address: int, array: np.ndarray) -> None:
        self._inside(address, array.nbytes)
        ctypes.memmove(address, array.ctypes.data, array.nbytes)

    def to_host(self, array: np.ndarray, address: int) -> None:
        self._inside(address, array.nbytes)
        ctypes.memmove(array.ctypes.data, address, array.nbytes)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        self._inside(target, nbytes)
        self._inside(source, nbytes)
        ctypes.memmove(target, source, nbytes)

    def zero(self, address: int, nbytes: int) -> None:
        self._inside(address, nbytes)
        ctypes.memset(address, 0, nbytes)

    def synchronize(self) -> None:
        pass

    def clock(self) -> EventClock:
        return EventClock(self)  # type: ignore[arg-type]

    def bus_id(self) -> str:
        return "0000:00:00.0"

    def memory_used(self) -> int:
        return sum(block.nbytes for block in self.blocks.values())

    def event(self) -> list[float]:
        return [0.0]

    def record(self, event: list[float]) -> None:
        event[0] = perf_counter() * 1e3

    def between_ms(self, begin: list[float], end: list[float]) -> float:
        return end[0] - begin[0]

    def forget_event(self, event: list[float]) -> None:
        event.clear()

    def _inside(self, address: int, nbytes: int) -> None:
        for start, block in list(self.blocks.items()):
            if start <= address and address + nbytes <= start + max(block.nbytes, 1):
                return
        raise AssertionError(f"{nbytes} bytes at {address:#x} lie in no block")
