"""A whole profile: rounds, memory, sensors, energy, operators, the ceiling."""

from __future__ import annotations

import gc
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...errors import OptionInvalid
from ..chat.pipeline import Pipeline
from .ceiling import Verdict, judge
from .energy import energy_per_request
from .measure import Measurement, Progress, Series, silent
from .memory import host_bytes, peak_host_bytes, system_bytes_used
from .operators import Operators, profile_operators
from .sensors import Sensor, SensorLog, sensors_for
from .workload import Workload


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What was measured."""

    pipeline: Pipeline
    workload: Workload
    series: dict[str, Series]
    """By the label of a point."""
    verdict: Verdict
    repeat: int
    warmup: int
    memory: dict[str, Any]
    sensors: list[dict[str, Any]]
    absent: dict[str, str]
    """Quantity that no sensor tells -> why."""
    energy: dict[str, list[dict[str, Any]]]
    """Label of a point -> a row for each meter."""
    operators: Operators | None
    """None: not asked for, or the engine has no profiler."""
    machine: dict[str, Any]


def profile(
    pipeline: Pipeline,
    workload: Workload,
    *,
    repeat: int = 10,
    warmup: int = 2,
    operators: bool = True,
    sensors: Sequence[Sensor] | None = None,
    progress: Progress = silent,
) -> Profile:
    """Measure a bundle.

    Args:
        pipeline: the bundle on its engine.
        workload: what to ask, from ``make_workload``.
        repeat: rounds that count.
        warmup: requests of every point that come before, at least 1.
        operators: whether to run the engine's own profiler afterwards.
        sensors: what to read between the rounds; None takes what this machine may have.
        progress: told of every step.

    Raises:
        OptionInvalid: fewer than one round or warm-up.
        VtpError: as for ``Pipeline.stream``.
    """
    for name, value in (("repeat", repeat), ("warmup", warmup)):
        if value < 1:
            raise OptionInvalid(name, value, "a count of at least 1")
    device = pipeline.engine.device()
    loaded = host_bytes()
    log = SensorLog(sensors_for(device) if sensors is None else sensors)
    measurement = Measurement(pipeline, workload)
    with _frozen():
        series = measurement.first_answers(progress)
        for number in range(1, warmup):
            progress(f"warm-up {number + 1} of {warmup}")
            measurement.round(number)
        log.read()
        for number in range(repeat):
            progress(f"round {number + 1} of {repeat}")
            for label, request in measurement.round(number).items():
                series[label].requests.append(request)
            log.read()
    memory = {
        "host_loaded_bytes": loaded,
        "host_peak_bytes": peak_host_bytes(),
        "system_used_bytes": system_bytes_used(),
        "unified": device is not None and device.unified,
    }
    energy = _energy(measurement, log, progress)
    verdict = judge(pipeline.bundle.manifest.plan, series)
    seen = None
    if operators:
        gc.collect()
        labels = [point.label for point in workload.points if point.has_images]
        seen = profile_operators(pipeline, workload, labels, progress)
    return Profile(
        pipeline=pipeline,
        workload=workload,
        series=series,
        verdict=verdict,
        repeat=repeat,
        warmup=warmup,
        memory=memory,
        sensors=log.summary(),
        absent=log.missing(),
        energy=energy,
        operators=seen,
        machine={
            "system": f"{platform.system()} {platform.release()}",
            "machine": platform.machine(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
        },
    )


@contextmanager
def _frozen() -> Iterator[None]:
    """Within, a garbage collection passes over what is there already: in a program with much in
    memory it would take longer than a request."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _energy(
    measurement: Measurement, log: SensorLog, progress: Progress
) -> dict[str, list[dict[str, Any]]]:
    meters = log.meters()
    found: dict[str, list[dict[str, Any]]] = {}
    for point in measurement.workload.points if meters else ():
        progress(f"energy: {point.label}")
        found[point.label] = energy_per_request(partial(measurement.ask, point), meters)
    return found
