"""Energy of a request: requests back to back in a window of their own, which is not timed.

A counter of energy is read before and after. Where a sensor knows power only, a thread reads it
again and again meanwhile, and its mean over the window counts. What the machine draws at rest is
part of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from .sensors import Reading, Sensor

WINDOW_S = 1.0
"""Least length of a window: NVML's counter moves a few times in a second."""
_LEAST_REQUESTS = 3
_EVERY_S = 0.02


def risen(before: Reading, after: Reading) -> float:
    """How much a counter rose, once around where it wraps."""
    assert not isinstance(before.value, str)
    assert not isinstance(after.value, str)
    rise = after.value - before.value
    return rise + (before.wraps or 0.0) if rise < 0 else rise


def energy_per_request(
    ask: Callable[[], object], meters: Iterable[Sensor], window_s: float = WINDOW_S
) -> list[dict[str, Any]]:
    """Joules of one request by every meter: ``sensor``, ``source``, ``joules``, ``watts``,
    ``requests``.

    Args:
        ask: makes one request.
        meters: sensors that know power or energy.
        window_s: least length of the window, seconds.
    """
    sensors = list(meters)
    before = [sensor.read() for sensor in sensors]
    sampler = _PowerSampler([s for s, r in zip(sensors, before, strict=True) if not _counts(r)])
    began, requests = perf_counter(), 0
    with sampler:
        while requests < _LEAST_REQUESTS or perf_counter() - began < window_s:
            ask()
            requests += 1
        seconds = perf_counter() - began
    rows = []
    for sensor, first in zip(sensors, before, strict=True):
        if _counts(first):
            last = {r.name: r for r in sensor.read() if r.quantity == "energy"}
            counted = [r for r in first if r.quantity == "energy" and r.name in last]
            joules = sum(risen(reading, last[reading.name]) for reading in counted)
            source = " + ".join(reading.name for reading in counted)
        else:
            watts, source = sampler.mean(sensor)
            joules = watts * seconds
        rows.append(
            {
                "sensor": sensor.name,
                "source": source,
                "joules": joules / requests,
                "watts": joules / seconds,
                "requests": requests,
            }
        )
    return rows


def _counts(readings: list[Reading]) -> bool:
    return any(reading.quantity == "energy" for reading in readings)


class _PowerSampler:
    """Reads power while a block runs."""

    def __init__(self, sensors: list[Sensor]) -> None:
        self._watts: dict[str, list[float]] = {sensor.name: [] for sensor in sensors}
        self._sources = {sensor.name: "" for sensor in sensors}
        self._sensors = sensors
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while True:
            for sensor in self._sensors:
                parts = [r for r in sensor.read() if r.quantity == "power" and r.whole]
                self._sources[sensor.name] = " + ".join(reading.name for reading in parts)
                self._watts[sensor.name].append(sum(float(reading.value) for reading in parts))
            if self._ended.wait(_EVERY_S):
                return

    def __enter__(self) -> _PowerSampler:
        if self._sensors:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._sensors:
            self._thread.join()

    def mean(self, sensor: Sensor) -> tuple[float, str]:
        """Mean power, watts, and what it is of."""
        watts = self._watts[sensor.name]
        return sum(watts) / len(watts), self._sources[sensor.name]
