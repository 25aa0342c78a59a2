"""A profile as one JSON document, in a versioned schema; tables and page are made from it.

``docs/profiling.md`` describes the schema. A number that was not measured is null, and stands in
``absent`` with the reason; it is never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..chat.media import Video
from .ceiling import Ceiling, rounds_of
from .measure import Series
from .operators import Operators
from .profile import Profile
from .statistics import CONFIDENCE, Estimate, Rounds, Statistics, statistics
from .workload import TEXT_ONLY, WHOLE

SCHEMA = 1
"""Rises when a reader of the old form would go wrong."""
NAMES = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "latency": "request_latency",
}
"""Metrics with one value for each round -> their names in the document."""


def document(profile: Profile, accuracy: Mapping[str, float] | None = None) -> dict[str, Any]:
    """The document.

    Args:
        profile: what was measured.
        accuracy: keep -> share of right answers in 0..1, where it is known.
    """
    pipeline, workload = profile.pipeline, profile.workload
    manifest, rounds = pipeline.bundle.manifest, rounds_of(profile.series)
    verdict = profile.verdict
    whole = profile.series[WHOLE].facts
    return {
        "schema": {"name": "vtp-profile", "version": SCHEMA},
        "bundle": {
            "path": str(pipeline.bundle.path),
            "model": manifest.model.id,
            "family": manifest.model.family,
            "method": manifest.plan.name,
            "dtype": manifest.language.dtype,
            "weights": None
            if manifest.language.weights is None
            else str(manifest.language.weights.show()),
            "vtp": manifest.vtp,
        },
        "engine": {
            "name": pipeline.engine.name,
            "versions": pipeline.engine.versions(),
            "target": pipeline.target,
        },
        "machine": profile.machine,
        "workload": {
            "images": [_named(image) for image in workload.images],
            "prompt": workload.prompt,
            "text_tokens": whole.prompt_tokens - whole.image_tokens,
            "image_tokens": whole.image_tokens_before,
            "new_tokens": workload.new_tokens,
            "rounds": profile.repeat,
            "warmup": profile.warmup,
            "confidence": CONFIDENCE,
            "phase_clock": _clock(profile.series[WHOLE]),
        },
        "keeps": [
            _keep(profile, one, rounds, (accuracy or {}).get(label))
            for label, one in profile.series.items()
            if label != TEXT_ONLY
        ],
        "text_only": _keep(profile, profile.series[TEXT_ONLY], rounds, None),
        "ceiling": {
            "time_to_first_token": _ceiling(verdict.ttft),
            "request_latency": _ceiling(verdict.latency),
            "vision_share": verdict.vision_share,
            "image_token_share": verdict.image_share,
            "decode_share": verdict.decode_share,
            "sentences": list(verdict.sentences),
        },
        "warnings": list(verdict.warnings),
        "memory": profile.memory,
        "sensors": profile.sensors,
        "operators": _operators(profile.operators),
        "absent": _absent(profile, accuracy),
    }


def _named(image: Any) -> str:
    return str(image.source if isinstance(image, Video) else image)


def _clock(series: Series) -> str:
    return "wall" if series.requests[0].device_spans is None else "device events"


def _keep(
    profile: Profile, series: Series, rounds: Rounds, accuracy: float | None
) -> dict[str, Any]:
    facts, label = series.facts, series.point.label
    values = series.values()
    metrics = {
        name: _metric(values[key], rounds, label, key)
        for key, name in NAMES.items()
        if key in values
    }
    gaps = [gap for request in series.requests for gap in request.gaps_ms]
    if gaps:
        metrics["inter_token_latency"] = flat(statistics(gaps, "ms"))
    phases = {
        name.removeprefix("phase "): flat(statistics(found, "ms"))
        for name, found in values.items()
        if name.startswith("phase ")
    }
    operators = profile.operators
    selection = None if operators is None else operators.selection_ms.get(label)
    return {
        "keep": label,
        "keeps": list(series.point.keeps),
        "image_tokens": facts.image_tokens,
        "prompt_tokens": facts.prompt_tokens,
        "average_image_tokens": facts.average_tokens,
        "kv_bytes": facts.kv_bytes,
        "stages": [dict(stage) for stage in facts.stages],
        "metrics": metrics,
        "phases": phases,
        "phase_sum_ms": float(np.median(sum(v for n, v in values.items() if n[:6] == "phase "))),
        "selection_in_vision_ms": selection,
        "peak_host_bytes": facts.peak_host_bytes,
        "device_bytes": facts.device_bytes,
        "energy": profile.energy.get(label, []),
        "accuracy": accuracy,
    }


def _metric(values: np.ndarray, rounds: Rounds, label: str, key: str) -> dict[str, Any]:
    name = f"{label}/{key}"
    median = rounds.estimate(lambda median: median(name))
    return {
        **flat(statistics(values, "ms")),
        "p50_interval": _ends(median),
        "speedup": _estimate(rounds.ratio(f"{WHOLE}/{key}", name)),
    }


def flat(found: Statistics) -> dict[str, Any]:
    """Statistics in AIPerf's names."""
    return {
        "unit": found.unit,
        "avg": found.avg,
        "min": found.min,
        "max": found.max,
        **found.percentiles,
        "std": found.std,
        "count": found.count,
        "sum": found.sum,
    }


def _ends(estimate: Estimate) -> list[float] | None:
    if estimate.low is None or estimate.high is None:
        return None
    return [estimate.low, estimate.high]


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": _ends(estimate)}


def _ceiling(ceiling: Ceiling) -> dict[str, Any]:
    return {
        "floor_ms": _estimate(ceiling.floor_ms),
        "possible": _estimate(ceiling.possible),
        "best_keep": ceiling.best,
        "reached": {keep: _estimate(found) for keep, found in ceiling.reached.items()},
    }


def _operators(operators: Operators | None) -> list[dict[str, Any]]:
    return [] if operators is None else [vars(row) for row in operators.rows]


def _absent(profile: Profile, accuracy: Mapping[str, float] | None) -> dict[str, str]:
    found = dict(profile.absent)
    if profile.operators is None:
        found["operators"] = "not requested, or this engine has no profiler for operators"
    if accuracy is None:
        found["accuracy"] = "not measured: give the result of an evaluation with --accuracy"
    device = profile.pipeline.engine.device()
    if device is None:
        found["device memory"] = "the engine runs on the CPU, in host memory"
    elif device.unified:
        found["device memory"] = "host and device share one memory: see system_used_bytes"
    for quantity in ("host_peak_bytes", "system_used_bytes"):
        if profile.memory[quantity] is None:
            found[quantity] = "/proc does not have it here"
    if profile.repeat < 3:
        found["intervals"] = "fewer than 3 rounds"
    return found
