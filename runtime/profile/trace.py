"""A profile in Chrome's trace event format, which Perfetto and chrome://tracing open.

Timed rounds and the run with the engine's profiler are two processes of the trace: the second is
slower, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..model.marks import Span
from .operators import Operators
from .profile import Profile

TIMED, PROFILED = 1, 2
"""Process ids in the trace."""
_GAP_MS = 5.0
"""Between two requests of a track, so that they stand apart."""


def trace(profile: Profile) -> dict[str, Any]:
    """The document: every timed request, one track for each keep."""
    events: list[dict[str, Any]] = [_named(TIMED, "timed rounds")]
    track = 0
    for label, series in profile.series.items():
        for clock in ("wall clock", "device events"):
            requests = [
                request.spans if clock == "wall clock" else request.device_spans
                for request in series.requests
            ]
            if requests[0] is None:
                continue
            track += 1
            events.append(_named(TIMED, f"keep {label}, {clock}", track))
            start = 0.0
            for number, spans in enumerate(requests):
                assert spans is not None
                events += _request(TIMED, track, f"round {number + 1}", spans, start)
                start += spans[-1].stop_ms + _GAP_MS
    if profile.operators is not None:
        events += _profiled(profile.operators)
    return {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "bundle": str(profile.pipeline.bundle.path),
            "engine": profile.pipeline.engine.versions(),
        },
    }


def _profiled(operators: Operators) -> Iterator[dict[str, Any]]:
    yield _named(PROFILED, "engine's profiler on: slower than the timed rounds")
    for number, request in enumerate(operators.traced, start=1):
        yield _named(PROFILED, f"keep {request.keep}, phases", 2 * number - 1)
        yield from _request(PROFILED, 2 * number - 1, "request", request.spans, 0.0)
        yield _named(PROFILED, f"keep {request.keep}, operators", 2 * number)
        for event in request.events:
            start = (event.start_ns - request.start_ns) / 1e6
            arguments = {"node": event.node, "graph": event.graph}
            yield _complete(PROFILED, 2 * number, event.operator, start, event.ms, arguments)


def _request(
    process: int, track: int, name: str, spans: Iterable[Span], start: float
) -> Iterator[dict[str, Any]]:
    spans = list(spans)
    yield _complete(process, track, name, start, spans[-1].stop_ms, {})
    for span in spans:
        yield _complete(process, track, span.phase, start + span.start_ms, span.ms, {})


def _complete(
    process: int, track: int, name: str, start_ms: float, ms: float, arguments: dict[str, Any]
) -> dict[str, Any]:
    return {
        "name": name,
        "ph": "X",
        "ts": round(start_ms * 1e3, 3),
        "dur": round(ms * 1e3, 3),
        "pid": process,
        "tid": track,
        "args": arguments,
    }


def _named(process: int, name: str, track: int | None = None) -> dict[str, Any]:
    kind = "process_name" if track is None else "thread_name"
    return {"name": kind, "ph": "M", "pid": process, "tid": track or 0, "args": {"name": name}}
