"""The profile that an ONNX Runtime session writes: one JSON list in Chrome's trace event format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..base import OperatorEvent

_SUFFIX = "_kernel_time"


def read_profile(session: Any, graph: str) -> list[OperatorEvent]:
    """End the profile of a session, and read its operators.

    Args:
        session: an ``InferenceSession`` made with ``enable_profiling``.
        graph: what the events call its graph.
    """
    # Microseconds in the file count from here; the clock is that of the system.
    began_ns = int(session.get_profiling_start_time_ns())
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return [
        OperatorEvent(
            graph=graph,
            operator=event["args"]["op_name"],
            node=event["name"].removesuffix(_SUFFIX),
            start_ns=began_ns + int(event["ts"] * 1000),
            ms=event["dur"] / 1e3,
        )
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX)
    ]
