"""How much of a model its export is checked on: all of it, or as much as memory holds."""

from __future__ import annotations

import re

from ...errors import OptionInvalid
from ...runtime.bundle.plan import Plan
from ...runtime.files.system_files import available_memory

_BYTES_PER_PARAMETER = 8
"""float32 weights as PyTorch holds them, or, after those are freed, as ONNX Runtime reads them and
packs them anew."""
_REST = 10**9
"""Libraries, activations and caches."""
_AUTO = 1
"""Layers that are run where not all fit."""
_LAYERS = re.compile(r"layers:(\d{1,6})")


def check_form(wanted: str) -> None:
    """Refuse what is no value of ``check``, whatever the model.

    Raises:
        OptionInvalid: as ``checked_layers``.
    """
    if wanted not in ("full", "auto") and not _LAYERS.fullmatch(wanted):
        raise OptionInvalid("check", wanted, "full, auto or layers:N")


def checked_layers(wanted: str, plan: Plan, parameters: int) -> int | None:
    """Language layers that the golden sample runs through; None for the whole model.

    Args:
        wanted: ``full``, ``layers:N`` or ``auto``.
        plan: where the decoder drops: layers after the first drop are only checked with all.
        parameters: of what is exported.

    Raises:
        OptionInvalid: none of these, or layers that cannot be checked alone.
    """
    most = min(plan.stages[0].stop, plan.layers - 1)
    if wanted == "full":
        return None
    if wanted == "auto":
        needed = _BYTES_PER_PARAMETER * parameters + _REST
        free = available_memory()
        return None if free is None or needed <= free or most < 1 else min(_AUTO, most)
    found = _LAYERS.fullmatch(wanted)
    if found is None or not 1 <= int(found[1]) <= most:
        layers = f"layers:N with N in 1..{most} (the layers before the first drop)" if most else ""
        raise OptionInvalid("check", wanted, " or ".join(filter(None, ("full", "auto", layers))))
    return int(found[1])
