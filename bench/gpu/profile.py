"""``vtp profile`` on every engine that is here: does the clock add up, what do sensors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...runtime.chat.pipeline import Pipeline
from ...runtime.profile import document, make_workload, profile
from .engines import build_all, bundle_for, on_each
from .skip import need_device

_ROUNDS = 10
TOLERANCE = 0.03
"""By which the phases may miss the whole request."""


def run(work: Path, bundle: Path | None) -> dict[str, Any]:
    """Profile the sample model on every engine; sensors go to the notes."""
    need_device()
    folder = bundle_for(work, bundle)
    notes = build_all(folder)

    def measure(pipeline: Pipeline, name: str) -> list[dict[str, Any]]:
        return [row(pipeline, name, notes)]

    return {"rows": on_each(folder, notes, measure), "notes": notes}


def row(pipeline: Pipeline, name: str, notes: list[str]) -> dict[str, Any]:
    """What a profile of one engine shows; ceiling, sensors and what is absent go to notes."""
    found = document(profile(pipeline, make_workload(pipeline, new_tokens=16), repeat=_ROUNDS))
    whole = found["keeps"][0]
    latency = whole["metrics"]["request_latency"]["p50"]
    missed = abs(whole["phase_sum_ms"] / latency - 1)
    selection = whole["selection_in_vision_ms"]
    notes.append(f"{name}: {'; '.join(found['ceiling']['sentences'])}")
    notes += [f"{name}: {sensor}" for sensor in found["sensors"]]
    notes += [f"{name}, absent: {what}: {why}" for what, why in found["absent"].items()]
    return {
        "engine": name,
        "clock": found["workload"]["phase_clock"],
        "phases miss the whole by": f"{missed:.2%}",
        "adds up": "yes" if missed <= TOLERANCE else "NO",
        "selection in vision, ms": "-" if selection is None else f"{selection:.3f}",
        "energy, J": " / ".join(f"{meter['joules']:.3g}" for meter in whole["energy"]) or "absent",
        "device, MiB": "-" if whole["device_bytes"] is None else whole["device_bytes"] >> 20,
    }
