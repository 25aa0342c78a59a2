"""Operators by time, from the engine's own profiler, in a run of its own that is never timed.

The bundle is loaded once more, because a profiler is switched on when a graph is loaded. Its times
are larger than those of the timed rounds, by what the profiler itself costs.
"""

from __future__ import annotations

import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...trt_plugins.topk_tokens import OP_TYPE
from ..chat.pipeline import Pipeline
from ..engines.base import OperatorEvent
from ..model.marks import Span
from .measure import Measurement, Progress
from .workload import Point, Workload

REQUESTS = 3
"""Requests of each keep that count; one more warms up."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """All runs of one type of operator in one phase."""

    keep: str
    phase: str
    graph: str
    operator: str
    calls: float
    """In one request, mean."""
    ms: float
    """In one request, mean."""
    share: float
    """Of all operators of the phase."""


@dataclass(frozen=True, kw_only=True)
class Traced:
    """One request of the run, for the trace."""

    keep: str
    spans: tuple[Span, ...]
    start_ns: int
    events: tuple[OperatorEvent, ...]


@dataclass(frozen=True, kw_only=True)
class Operators:
    """What the profiler saw."""

    rows: tuple[Operator, ...]
    """The longest first, keep by keep and phase by phase."""
    selection_ms: dict[str, float]
    """Keep -> the operator ``TopKTokens`` within the vision graph, of one request."""
    traced: tuple[Traced, ...]
    """The last request of each keep."""


def profile_operators(
    pipeline: Pipeline, workload: Workload, labels: Sequence[str], progress: Progress
) -> Operators | None:
    """Run some points with the engine's profiler on.

    Args:
        pipeline: what was timed.
        workload: what was asked.
        labels: which points.
        progress: told of every step.

    Returns:
        None where the engine has no profiler.
    """
    with tempfile.TemporaryDirectory(prefix="vtp-profile-") as folder:
        engine = pipeline.engine.profiled(Path(folder))
        if engine is None:
            return None
        progress("operators: loading with the engine's profiler")
        choice = pipeline.source.choice
        noting = Pipeline(pipeline.bundle, engine, None, choice, pipeline.max_pixels, verify=False)
        noting.guide = pipeline.guide
        measurement = Measurement(noting, workload)
        requests: list[Traced] = []
        for point in (point for point in workload.points if point.label in labels):
            progress(f"operators: keep {point.label}")
            _ask(measurement, point)
            requests += [_ask(measurement, point) for _ in range(REQUESTS)]
        return summed(requests, engine.operators())


def _ask(measurement: Measurement, point: Point) -> Traced:
    start_ns = time.time_ns()
    request, _, _ = measurement.ask(point)
    return Traced(keep=point.label, spans=request.spans, start_ns=start_ns, events=())


def summed(requests: Sequence[Traced], events: Sequence[OperatorEvent]) -> Operators:
    """Events, given to the phases in which they began, and added up.

    Args:
        requests: in order, without their events.
        events: of all of them, and of what ran between, which is left out.
    """
    starts = [request.start_ns for request in requests]
    times: dict[tuple[str, str, str, str], list[float]] = {}
    selection: dict[str, float] = {}
    own: dict[int, list[OperatorEvent]] = {}
    asked = {keep: sum(r.keep == keep for r in requests) for keep in {r.keep for r in requests}}
    for event in events:
        number = bisect_right(starts, event.start_ns) - 1
        if number < 0:
            continue
        request = requests[number]
        phase = _phase(request, event.start_ns)
        if phase is None:
            continue
        own.setdefault(number, []).append(event)
        key = (request.keep, phase, event.graph, event.operator)
        times.setdefault(key, []).append(event.ms)
        if phase == "vision" and OP_TYPE in event.node:
            selection[request.keep] = selection.get(request.keep, 0.0) + event.ms
    totals: dict[tuple[str, str], float] = {}
    for (keep, phase, _, _), spent in times.items():
        totals[keep, phase] = totals.get((keep, phase), 0.0) + sum(spent)
    rows = [
        Operator(
            keep=keep,
            phase=phase,
            graph=graph,
            operator=operator,
            calls=len(spent) / asked[keep],
            ms=sum(spent) / asked[keep],
            share=sum(spent) / totals[keep, phase] if totals[keep, phase] else 0.0,
        )
        for (keep, phase, graph, operator), spent in times.items()
    ]
    keeps = list(dict.fromkeys(request.keep for request in requests))
    phases = list(dict.fromkeys(row.phase for row in rows))
    rows.sort(key=lambda row: (keeps.index(row.keep), phases.index(row.phase), -row.ms))
    last = {request.keep: number for number, request in enumerate(requests)}
    return Operators(
        rows=tuple(rows),
        selection_ms={keep: total / asked[keep] for keep, total in selection.items()},
        traced=tuple(
            Traced(
                keep=keep,
                spans=requests[number].spans,
                start_ns=requests[number].start_ns,
                events=tuple(own.get(number, ())),
            )
            for keep, number in last.items()
        ),
    )


def _phase(request: Traced, moment_ns: int) -> str | None:
    """The phase of a request in which a moment lies; None outside."""
    at = (moment_ns - request.start_ns) / 1e6
    return next((s.phase for s in request.spans if s.start_ms <= at < s.stop_ms), None)
