"""Marks of a request: which phase ended when. Nobody marks unless a request is being profiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter

from ..engines.device import DeviceClock

Mark = Callable[[str], None]
"""Called with the name of the phase that ends now; the next one begins."""


def unmarked(phase: str) -> None:
    """The mark of a request that nobody profiles."""


@dataclass(frozen=True)
class Span:
    """A phase that ran once."""

    phase: str
    start_ms: float
    """Since the request began."""
    stop_ms: float

    @property
    def ms(self) -> float:
        """How long."""
        return self.stop_ms - self.start_ms


class Marks:
    """Marks of one request. Phases lie end to end: their sum is the whole request.

    Args:
        device: the engine's clock, where it has one: a phase then also has a span on the device,
            which ends when the device has done its work.
    """

    def __init__(self, device: DeviceClock | None = None) -> None:
        self._device = device
        self._phases: list[str] = []
        if device is not None:
            device.stamp()
        self._times = [perf_counter()]

    def __call__(self, phase: str) -> None:
        if self._device is not None:
            self._device.stamp()
        self._phases.append(phase)
        self._times.append(perf_counter())

    def spans(self) -> list[Span]:
        """By the wall clock of the host."""
        return self._between([(time - self._times[0]) * 1e3 for time in self._times])

    def device_spans(self) -> list[Span] | None:
        """By the device's clock; None where there is none. Only once for a request."""
        return None if self._device is None else self._between(self._device.read_ms())

    def _between(self, times: list[float]) -> list[Span]:
        edges = pairwise(times)
        return [Span(phase, *edge) for phase, edge in zip(self._phases, edges, strict=True)]
