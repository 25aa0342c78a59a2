"""``vtp profile`` on every engine that is here: does the clock add up, what do sensors say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import VtpError
from ...runtime.engines import ENGINES, engine_class
from ...runtime.pipeline import load
from ...runtime.profile import document, make_workload, profile
from .engines import build_all, bundle_for, choices
from .skip import need_device

TOLERANCE = 0.03
"""By which the phases may miss the whole request."""


def run(work: Path, bundle: Path | None) -> dict[str, Any]:
    """Profile the sample model on every engine; sensors go to the notes."""
    need_device()
    folder = bundle_for(work, bundle)
    notes = build_all(folder)
    rows: list[dict[str, Any]] = []
    for name in ENGINES:
        reason = engine_class(name).missing()
        if reason is not None:
            notes.append(f"{name}: {reason}")
            continue
        for choice in choices(name, folder, notes):
            try:
                rows.append(_row(folder, name, choice, notes))
            except VtpError as error:
                notes.append(f"{name} ({choice}): {error}")
    return {"rows": rows, "notes": notes}


def _row(folder: Path, name: str, choice: str, notes: list[str]) -> dict[str, Any]:
    pipeline = load(folder, name, target=choice)
    found = document(profile(pipeline, make_workload(pipeline, new_tokens=16)))
    whole = found["keeps"][0]
    latency = whole["metrics"]["request_latency"]["p50"]
    missed = abs(whole["phase_sum_ms"] / latency - 1)
    selection = whole["selection_in_vision_ms"]
    notes.append(f"{name} ({choice}): {'; '.join(found['ceiling']['sentences'])}")
    notes += [f"{name} ({choice}): {row}" for row in found["sensors"]]
    notes += [f"{name} ({choice}), absent: {what}: {why}" for what, why in found["absent"].items()]
    return {
        "engine": f"{name} ({choice})",
        "clock": found["workload"]["phase_clock"],
        "phases miss the whole by": f"{missed:.2%}",
        "adds up": "yes" if missed <= TOLERANCE else "NO",
        "selection in vision, ms": "-" if selection is None else f"{selection:.3f}",
        "energy, J": " / ".join(f"{meter['joules']:.3g}" for meter in whole["energy"]) or "absent",
        "device, MiB": "-" if whole["device_bytes"] is None else whole["device_bytes"] >> 20,
    }
