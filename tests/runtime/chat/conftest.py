"""The sample model, loaded, and a count of the graphs that it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import sleep
from typing import Any

import pytest

import vtp
from vtp.runtime.engines.onnxruntime import cpu


@pytest.fixture(scope="module")
def shared_pipeline(tiny_bundle: Path) -> Iterator[vtp.Pipeline]:
    """Of all tests of a file; do not close it."""
    with vtp.load(tiny_bundle, "cpu", threads=1, verify=False) as pipeline:
        yield pipeline


@pytest.fixture
def pipeline(tiny_bundle: Path) -> Iterator[vtp.Pipeline]:
    """Of one test, which may close it."""
    with vtp.load(tiny_bundle, "cpu", threads=1, verify=False) as pipeline:
        yield pipeline


@dataclass
class Runs:
    """Runs of graphs in this process."""

    count: int = 0
    running: int = 0
    most: int = 0
    """Most at one time."""
    pause: float = 0.0
    """Seconds that each takes longer."""
    lock: Any = field(default_factory=Lock)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Counts the runs of graphs on the processor from here on."""
    found, run = Runs(), cpu._BoundRun.__call__

    def counted(self: cpu._BoundRun) -> None:
        with found.lock:
            found.count += 1
            found.running += 1
            found.most = max(found.most, found.running)
        try:
            sleep(found.pause)
            run(self)
        finally:
            with found.lock:
                found.running -= 1

    monkeypatch.setattr(cpu._BoundRun, "__call__", counted)
    return found
