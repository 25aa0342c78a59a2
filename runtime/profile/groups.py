"""Phases as they are shown together: few enough for a legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..bundle.contract import BEFORE_STAGES, DROP, VISION

GROUPS = {
    "read": ("read and preprocess", ("read", "preprocess")),
    "guide": ("guide", ("guide",)),
    "vision": ("vision, selection in it, projector", (VISION,)),
    "select": ("drops between stages", (*(kind.name for kind in BEFORE_STAGES), f"{DROP}.")),
    "text": ("prompt, splice, sampling", ("prompt", "splice", "first token")),
    "prefill": ("prefill", ("prefill.",)),
    "decode": ("decode", ("decode", "finish")),
}
"""Key -> name, and the phases of it; one that ends in a point stands for all that begin so."""


def group_of(phase: str) -> str:
    """Key of the group that a phase belongs to."""
    for key, (_, phases) in GROUPS.items():
        if any(phase == p or (p[-1] == "." and phase.startswith(p)) for p in phases):
            return key
    raise KeyError(phase)


def grouped(row: Mapping[str, Any]) -> dict[str, float]:
    """Medians of a keep's phases by group, milliseconds; groups that never ran are left out."""
    found: dict[str, float] = {}
    for phase, numbers in row["phases"].items():
        key = group_of(phase)
        found[key] = found.get(key, 0.0) + numbers["p50"]
    return {key: found[key] for key in GROUPS if key in found}
