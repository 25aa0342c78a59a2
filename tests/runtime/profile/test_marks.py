"""Marks lie end to end, by the clock of the host and by that of a device."""

from __future__ import annotations

from itertools import pairwise
from time import sleep

import pytest

from vtp.runtime.engines.device import DeviceClock
from vtp.runtime.model.marks import Marks


class Scripted(DeviceClock):
    """A device that comes to each stamp at the moment that the test says."""

    def __init__(self, *moments: float) -> None:
        self.moments, self.stamped = list(moments), 0

    def stamp(self) -> None:
        self.stamped += 1

    def read_ms(self) -> list[float]:
        return self.moments[: self.stamped]


def test_phases_lie_end_to_end() -> None:
    marks = Marks()
    for phase in ("read", "vision", "decode", "decode"):
        sleep(0.002)
        marks(phase)
    spans = marks.spans()
    assert [span.phase for span in spans] == ["read", "vision", "decode", "decode"]
    assert spans[0].start_ms == 0
    assert all(before.stop_ms == after.start_ms for before, after in pairwise(spans))
    assert all(span.ms >= 2 for span in spans)
    assert sum(span.ms for span in spans) == pytest.approx(spans[-1].stop_ms)
    assert marks.device_spans() is None


def test_a_phase_ends_when_the_device_has_done_it() -> None:
    clock = Scripted(0.0, 1.5, 9.0)
    marks = Marks(clock)
    marks("vision")
    marks("prefill.0")
    found = marks.device_spans()
    assert found is not None
    assert [(span.phase, span.ms) for span in found] == [("vision", 1.5), ("prefill.0", 7.5)]
