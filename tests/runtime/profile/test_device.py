"""A profile on an engine that works behind the host's back: TensorRT's stand-in, over a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vtp
from vtp.runtime.profile import document, make_workload, profile, trace
from vtp.runtime.profile.sensors import Processor

from ...export.test_tensorrt_engine import built, library  # noqa: F401
from .. import stand_in_tensorrt as stand_in


@pytest.fixture
def pipeline(library: Any, tiny_bundle: Path, tmp_path: Path) -> vtp.Pipeline:  # noqa: F811
    """The sample model as engines that the stand-in reads."""
    bundle = built(tiny_bundle, tmp_path / "built", "onnx", tokens=600)
    return vtp.load(bundle, "tensorrt", verify=False)


def test_phases_end_by_the_device_clock(
    pipeline: vtp.Pipeline,
    library: stand_in.RecordedMemory,  # noqa: F811
) -> None:
    workload = make_workload(pipeline, keeps=["0.1"], new_tokens=4)
    measured = profile(pipeline, workload, repeat=3, warmup=1, sensors=[Processor()])
    found = document(measured)
    assert found["workload"]["phase_clock"] == "device events"
    assert found["memory"]["unified"] is True
    assert "share one memory" in found["absent"]["device memory"]
    for row in found["keeps"]:
        assert row["device_bytes"] > row["kv_bytes"]
        latency = row["metrics"]["request_latency"]["p50"]
        assert row["phase_sum_ms"] == pytest.approx(latency, rel=0.03)
    tracks = [e["args"].get("name") for e in trace(measured)["traceEvents"]]
    assert {"keep 1.0, wall clock", "keep 1.0, device events"} <= set(tracks)
    # Each engine reports two layers, of 1 and 2 ms; the second is the selection.
    assert found["keeps"][0]["selection_in_vision_ms"] == pytest.approx(2.0)
    layers = {row["operator"]: row for row in found["operators"] if row["phase"] == "vision"}
    assert {name: row["ms"] for name, row in layers.items()} == {"body": 1.0, "TopKTokens": 2.0}


def test_timed_runs_report_no_layers(
    pipeline: vtp.Pipeline,
    library: stand_in.RecordedMemory,  # noqa: F811
) -> None:
    """They are replayed, which the run with the profiler is not."""
    workload = make_workload(pipeline, keeps=["0.1"], new_tokens=6)
    profile(pipeline, workload, repeat=1, warmup=1, operators=False, sensors=[])
    replays = library.replays
    assert replays > 0
    assert pipeline.engine.operators() == []
    noting = pipeline.engine.profiled(Path())
    assert noting is not None
    assert noting is not pipeline.engine
