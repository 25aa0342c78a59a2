"""A plan as a file: what ``vtp calibrate schedule`` writes and ``vtp export --plan`` reads."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import ManifestInvalid, PlanInvalid
from ...runtime.bundle.keep import Keep
from ...runtime.bundle.plan import Plan
from ...runtime.files.open_file import label_of, open_file
from ...runtime.files.strict import read, write

VERSION = 1
SCHEDULE = "schedule"
_MAX_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class PlanFile:
    """Methods, drops and keeps, as ``vtp export`` takes them."""

    vtp_plan: int = VERSION
    """Version of this form."""
    method: str | None
    """As for ``--method``; None takes ``stages`` alone."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """As for ``--set``: ``METHOD.PARAMETER`` -> value."""
    stages: tuple[str, ...] = ()
    """As for ``--stage``: ``LAYER:KEEP:SCORE``."""
    keep: tuple[Keep, ...] | None = None
    """As for ``--keep``: one for each drop, that of the vision side first."""
    positions: str | None = None
    """As for ``--positions``."""
    found: dict[str, Any] = field(default_factory=dict)
    """How it was found, for people; not read."""

    def to_json(self) -> str:
        """The file's text."""
        return json.dumps(write(self), indent=1, allow_nan=False) + "\n"


def plan_file(plan: Plan, keeps: tuple[Keep, ...], found: dict[str, Any]) -> PlanFile:
    """The file of a plan with a free schedule at some keeps; drops that drop nothing are left out.

    Args:
        plan: a vision-side method or none, and ``schedule``.
        keeps: one for each drop of the plan, as ratios.
        found: how they were found.
    """
    left: Keep = 1.0
    drops = []
    for drop, keep in zip(plan.drops, keeps, strict=True):
        if keep < left:
            drops.append((drop, keep))
        left = keep
    inner = [(drop, keep) for drop, keep in drops if drop.layer > 0]
    vision = [record for record in plan.methods if record.name != SCHEDULE]
    by_vision = any(drop.score == "vision" for drop, _ in inner)
    first = drops[0][1] if drops and drops[0][0].layer == 0 else 1.0
    if first == 1.0 and not by_vision:
        vision = []
    parameters = {
        f"{record.name}.{name}": value
        for record in (*vision, *(r for r in plan.methods if r.name == SCHEDULE and inner))
        for name, value in record.parameters.items()
        if name != "stages"
    }
    names = [record.name for record in vision] + [SCHEDULE] * bool(inner)
    return PlanFile(
        method="+".join(names) or "none",
        parameters=parameters,
        stages=tuple(f"{drop.layer}:{keep}:{drop.score}" for drop, keep in inner),
        keep=tuple([first] * bool(vision) + [keep for _, keep in inner]) or None,
        positions=plan.positions if names else None,
        found=found,
    )


def read_plan(path: Path) -> PlanFile:
    """Read a plan file.

    Raises:
        PlanInvalid: it cannot be opened, or is no plan of this version.
    """
    label = label_of(path)
    with open_file(path, label, "a plan", PlanInvalid) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise PlanInvalid(label, f"it is larger than {_MAX_BYTES:,} bytes")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PlanInvalid(label, f"it is not JSON ({error})") from error
    version = content.get("vtp_plan") if isinstance(content, dict) else None
    if version != VERSION or isinstance(version, bool):
        raise PlanInvalid(label, f"'vtp_plan': {VERSION} is needed, not {version!r}")
    try:
        return read(PlanFile, content, "plan")
    except ManifestInvalid as error:
        problem = str(error).removeprefix("manifest.json is invalid at ")
        raise PlanInvalid(label, problem.removesuffix("; export the model again")) from error
