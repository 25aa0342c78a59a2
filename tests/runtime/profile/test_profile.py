"""A profile of the sample model from end to end."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vtp
from vtp.runtime.profile import Profile, make_workload, profile, trace
from vtp.runtime.profile.groups import GROUPS, group_of
from vtp.runtime.profile.rows import sections

from .conftest import NEW_TOKENS, ROUNDS

KEEPS = ("1.0", "0.5", "0.1")
PHASES = ["read", "preprocess", "prompt", "vision", "splice", "prefill.0", "first token"]
BEFORE_FIRST = len(PHASES)


def test_the_phases_are_the_whole_request(found: dict[str, Any]) -> None:
    for row in (*found["keeps"], found["text_only"]):
        latency = row["metrics"]["request_latency"]["p50"]
        assert row["phase_sum_ms"] == pytest.approx(latency, rel=0.03)
    for row in found["keeps"]:
        assert list(row["phases"]) == [*PHASES, "decode", "finish"]
        assert all(numbers["min"] > 0 for numbers in row["phases"].values())


def test_every_request_lies_end_to_end(profiled: Profile) -> None:
    for series in profiled.series.values():
        assert len(series.requests) == ROUNDS
        for request in series.requests:
            phases = request.phases
            assert sum(phases.values()) == pytest.approx(request.latency_ms)
            before = [ms for phase, ms in phases.items() if phase not in ("decode", "finish")]
            assert sum(before) == pytest.approx(request.ttft_ms)
            # End tokens do not end it: the sample model answers in fewer.
            assert len(request.gaps_ms) == NEW_TOKENS - 1


def test_what_was_in_memory_before_is_not_collected_anew(tiny_bundle: Path) -> None:
    """In a program with much in it a collection before each request takes longer than those."""
    frozen: dict[str, int] = {}
    pipeline = vtp.load(tiny_bundle, "cpu", threads=1, verify=False)
    workload = make_workload(pipeline, keeps=["1.0"], new_tokens=2)

    def look(step: str) -> None:
        frozen[step] = gc.get_freeze_count()

    profile(pipeline, workload, repeat=1, warmup=1, operators=False, progress=look)
    assert frozen["round 1 of 1"] > 10_000
    assert gc.get_freeze_count() == 0


def test_metrics_follow_from_the_requests(profiled: Profile, found: dict[str, Any]) -> None:
    for row in found["keeps"]:
        requests = profiled.series[row["keep"]].requests
        metrics = row["metrics"]
        assert metrics["time_to_first_token"]["p50"] == pytest.approx(
            np.median([request.ttft_ms for request in requests])
        )
        per_token = [
            (request.latency_ms - request.spans[-1].ms - request.ttft_ms) / (NEW_TOKENS - 1)
            for request in requests
        ]
        assert metrics["time_per_output_token"]["avg"] == pytest.approx(np.mean(per_token))
        gaps = metrics["inter_token_latency"]
        assert gaps["count"] == ROUNDS * (NEW_TOKENS - 1)
        assert metrics["request_latency"]["count"] == ROUNDS
        low, high = metrics["time_to_first_token"]["p50_interval"]
        assert low <= metrics["time_to_first_token"]["p50"] <= high


def test_tokens_and_memory_follow_the_keep(found: dict[str, Any]) -> None:
    rows = found["keeps"]
    assert [row["keep"] for row in rows] == list(KEEPS)
    assert [row["image_tokens"] for row in rows] == [256, 128, 26]
    text = found["workload"]["text_tokens"]
    assert [row["prompt_tokens"] for row in rows] == [n + text for n in (256, 128, 26)]
    kv = [row["kv_bytes"] for row in rows]
    # 4 layers, keys and values, float32: bytes of a token, for all but the last new one.
    per_token = kv[0] // (256 + text + NEW_TOKENS - 1)
    assert kv == [per_token * (n + text + NEW_TOKENS - 1) for n in (256, 128, 26)]
    assert found["text_only"]["image_tokens"] == 0
    peaks = [row["peak_host_bytes"] for row in rows]
    assert peaks == sorted(peaks, reverse=True)
    assert found["memory"]["host_peak_bytes"] >= peaks[0] > 10 * 2**20
    assert found["memory"]["unified"] is False


def test_the_ceiling_is_not_beaten(found: dict[str, Any]) -> None:
    for ceiling in (found["ceiling"]["time_to_first_token"], found["ceiling"]["request_latency"]):
        most = ceiling["possible"]["interval"][1]
        for reached in ceiling["reached"].values():
            assert reached["interval"][0] <= most
    assert 0 < found["ceiling"]["vision_share"] < 1


def test_selection_in_the_vision_graph_comes_from_the_profiler(found: dict[str, Any]) -> None:
    for row in found["keeps"]:
        vision = row["phases"]["vision"]["p50"]
        assert 0 < row["selection_in_vision_ms"] < vision
    rows = found["operators"]
    assert {row["keep"] for row in rows} == set(KEEPS)
    assert {row["phase"] for row in rows} >= {"vision", "prefill.0", "decode"}
    for keep in KEEPS:
        for phase in ("vision", "prefill.0", "decode"):
            shares = [r["share"] for r in rows if (r["keep"], r["phase"]) == (keep, phase)]
            assert sum(shares) == pytest.approx(1.0)
    attention = [r for r in rows if r["operator"] == "GroupQueryAttention"]
    calls = {(r["keep"], r["phase"]): r["calls"] for r in attention}
    # 4 layers; one prefill, and as many steps as there are tokens after the first.
    assert calls["1.0", "prefill.0"] == 4
    assert calls["1.0", "decode"] == 4 * (NEW_TOKENS - 1)


def test_what_is_absent_says_why(found: dict[str, Any]) -> None:
    assert "device memory" in found["absent"]
    assert "accuracy" not in found["absent"]
    told = {row["quantity"] for row in found["sensors"]} | set(found["absent"])
    assert told >= {"clock", "temperature", "power", "energy", "power mode", "throttling", "load"}


def test_the_trace_is_chromes(profiled: Profile) -> None:
    data = json.loads(json.dumps(trace(profiled)))
    events = data["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    for event in events:
        assert {"name", "ph", "pid", "tid", "args"} <= set(event)
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
    names = {event["args"]["name"] for event in events if event["ph"] == "M"}
    assert {"timed rounds", "keep 1.0, wall clock", "keep 0.1, operators"} <= names
    track = next(e["tid"] for e in events if e["args"].get("name") == "keep 1.0, wall clock")
    timed = [e for e in events if e["ph"] == "X" and (e["pid"], e["tid"]) == (1, track)]
    rounds = [event for event in timed if event["name"].startswith("round ")]
    assert len(rounds) == ROUNDS
    for request in rounds:
        end = request["ts"] + request["dur"]
        inside = [e["dur"] for e in timed if e is not request and request["ts"] <= e["ts"] < end]
        assert sum(inside) == pytest.approx(request["dur"], rel=1e-3)


def test_every_phase_belongs_to_a_group() -> None:
    for phase in (*PHASES, "guide", "raters", "drop.1", "prefill.12", "decode", "finish"):
        assert group_of(phase) in GROUPS


def test_tables_hold_every_statistic(found: dict[str, Any]) -> None:
    tables = sections(found)
    rows = tables["statistics"]
    assert {row["keep"] for row in rows} == {*KEEPS, "text only"}
    assert {row["count"] for row in rows} == {ROUNDS, ROUNDS * (NEW_TOKENS - 1)}
    assert [row["in words"] for row in tables["ceiling"]] == found["ceiling"]["sentences"]


def test_the_schema_is_the_documented_one(found: dict[str, Any], root: Path) -> None:
    assert found["schema"] == {"name": "vtp-profile", "version": 1}
    text = (root / "docs" / "profiling.md").read_text(encoding="utf-8")
    keep = found["keeps"][0]
    for name in (*found, *keep, *keep["metrics"], *keep["stages"][0], *found["workload"]):
        assert f"`{name}`" in text, name
    assert json.loads(json.dumps(found, allow_nan=False)) == found
