"""A device's place taken by the processor, as far as the device checks ask for one.

What the checks then print means nothing; that their own code runs is what is seen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np

from vtp.trt_plugins.topk_tokens import topk_tokens

from ...runtime.stand_in_tensorrt import RecordedMemory

MEMORY: list[RecordedMemory] = []
"""The device that is there now, at the end."""


class StandInCuda(RecordedMemory):
    """``Cuda`` over host memory, with the clock of the processor."""

    name = "stand-in"

    def __init__(self, *_: Any) -> None:
        super().__init__()
        MEMORY.append(self)

    def elapsed_ms(self, work: Callable[[], None], times: int) -> float:
        began = perf_counter()
        for _ in range(times):
            work()
        return (perf_counter() - began) * 1e3


class StandInKernel:
    """``TopKTokensKernel`` in NumPy, on addresses."""

    def launch(
        self,
        tokens_ptr: int,
        scores_ptr: int,
        kept_tokens_ptr: int,
        kept_ptr: int,
        *,
        batch: int,
        n: int,
        k: int,
        row_bytes: int,
        stream: int,
    ) -> None:
        memory = MEMORY[-1]
        assert stream == memory.stream

        def select() -> None:
            tokens = np.empty((batch, n, row_bytes), np.uint8)
            scores = np.empty((batch, n), np.float32)
            for array, address in ((tokens, tokens_ptr), (scores, scores_ptr)):
                ctypes.memmove(array.ctypes.data, address, array.nbytes)
            for array, address in zip(
                topk_tokens(tokens, scores, k), (kept_tokens_ptr, kept_ptr), strict=True
            ):
                memory._inside(address, array.nbytes)
                ctypes.memmove(address, np.ascontiguousarray(array).ctypes.data, array.nbytes)

        memory.submit(select)


class StandInEvent:
    """``torch.cuda.Event``."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self._at = 0.0

    def record(self) -> None:
        self._at = perf_counter()

    def elapsed_time(self, end: StandInEvent) -> float:
        return (end._at - self._at) * 1e3


class StandInGraph:
    """``torch.cuda.CUDAGraph``; what was captured has run already."""

    def replay(self) -> None:
        pass


@contextmanager
def captured(graph: StandInGraph) -> Any:
    """``torch.cuda.graph``."""
    yield


def put_in_torchs_place(monkeypatch: Any) -> None:
    """Let torch believe that it has a device, which is the processor."""
    import torch
    from transformers import BatchFeature

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", StandInGraph)
    monkeypatch.setattr(torch.cuda, "graph", captured)
    monkeypatch.setattr(torch.cuda, "Event", StandInEvent)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)
    monkeypatch.setattr(torch.nn.Module, "cuda", lambda module: module)
    to = BatchFeature.to
    monkeypatch.setattr(BatchFeature, "to", lambda features, _, kind: to(features, "cpu", kind))
