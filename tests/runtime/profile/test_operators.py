"""Events of an engine's profiler are given to the phases in which they began."""

from __future__ import annotations

import pytest

from vtp.runtime.engines.base import OperatorEvent
from vtp.runtime.model.marks import Span
from vtp.runtime.profile.operators import Traced, summed


def traced(keep: str, start_ms: int) -> Traced:
    spans = (Span("vision", 0.0, 10.0), Span("prefill.0", 10.0, 20.0))
    return Traced(keep=keep, spans=spans, start_ns=start_ms * 10**6, events=())


def event(at_ms: float, ms: float, operator: str, node: str = "node") -> OperatorEvent:
    return OperatorEvent(
        graph="g.onnx", operator=operator, node=node, start_ns=int(at_ms * 1e6), ms=ms
    )


def test_operators_are_summed_by_keep_and_phase() -> None:
    requests = [traced("1.0", 1000), traced("1.0", 2000), traced("0.1", 3000)]
    found = summed(
        requests,
        [
            event(500, 7, "MatMul"),  # before all
            event(1001, 2, "MatMul"),
            event(1002, 1, "TopK", "_inlfunc_TopKTokens_TopK_6"),
            event(1012, 4, "MatMul"),
            event(1500, 9, "MatMul"),  # between two requests
            event(2003, 4, "MatMul"),
            event(2004, 3, "TopK", "_inlfunc_TopKTokens_TopK_6"),
            event(3011, 5, "Gather"),
        ],
    )
    rows = {(row.keep, row.phase, row.operator): row for row in found.rows}
    assert set(rows) == {
        ("1.0", "vision", "MatMul"),
        ("1.0", "vision", "TopK"),
        ("1.0", "prefill.0", "MatMul"),
        ("0.1", "prefill.0", "Gather"),
    }
    row = rows["1.0", "vision", "MatMul"]
    assert (row.ms, row.calls) == (3.0, 1.0)
    assert row.share == pytest.approx(0.6)
    assert found.selection_ms == {"1.0": 2.0}
    # The longest first.
    assert [row.operator for row in found.rows if row.phase == "vision"] == ["MatMul", "TopK"]
    # The trace shows the last request of each keep.
    assert [(t.keep, t.start_ns, len(t.events)) for t in found.traced] == [
        ("1.0", 2000 * 10**6, 2),
        ("0.1", 3000 * 10**6, 1),
    ]
