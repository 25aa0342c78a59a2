"""``vtp doctor``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import format_option
from .tables import show

if TYPE_CHECKING:
    from ..runtime.machine.machine import Machine

_PRECISIONS = ("float16", "int8", "int4")
_KEEPS = (1.0, 0.1)


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    help="Folder for bundles, whose free disk space is shown.  [default: this folder]",
)
@click.option(
    "--memory",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Show what fits into this much memory, instead of the memory of this machine.",
)
@format_option
def doctor(out: Path, memory: float | None, form: str) -> None:
    """Show what this machine has, how to install what is missing, and which models fit.

    \b
    Example:
      vtp doctor
      vtp doctor --memory 8
      vtp doctor --format json
    """
    from ..runtime.machine.machine import read_machine

    machine = read_machine(out)
    room = machine.room if memory is None else memory * 1e9
    show(
        {
            "machine": _facts(machine, room),
            "engines": _engines(),
            "sensors": _sensors(),
            "packages": _packages(),
            "models": [] if room is None else _models(room, form),
        },
        form,
    )


def _facts(machine: Machine, room: float | None) -> Sequence[Mapping[str, Any]]:
    from ..export.source.footprint import RUNTIME_BYTES, TEXT_TOKENS

    card = machine.card
    facts = {
        "system": machine.system,
        "board": machine.board,
        "JetPack (L4T)": machine.jetpack,
        "processor": f"{machine.processor or 'unknown'}, {machine.cores} cores for this process, "
        f"{machine.architecture}",
        "memory": _gigabytes(machine.memory, machine.available),
        "free disk": f"{machine.disk / 1e9:.1f} GB",
        "NVIDIA driver": machine.driver or "none loaded",
        "NVIDIA card": machine.no_card
        if card is None
        else f"{card.name}, compute capability {card.capability}, {card.memory / 1e9:.1f} GB"
        + (" shared with the processor" if card.unified else ""),
        "models below": "the memory is unknown: give --memory GB"
        if room is None
        else f"what fits into {room / 1e9:.1f} GB: weights, KV cache of one image of the largest "
        f"size and {TEXT_TOKENS} text tokens, and {RUNTIME_BYTES / 1e9:.0f} GB for everything else",
    }
    return [{"what": key, "value": value} for key, value in facts.items() if value is not None]


def _gigabytes(memory: int | None, available: int | None) -> str | None:
    if memory is None or available is None:
        return None
    return f"{memory / 1e9:.1f} GB, {available / 1e9:.1f} GB available"


def _engines() -> Sequence[Mapping[str, Any]]:
    from ..runtime.engines import ENGINES, engine_class

    reasons = {name: engine_class(name).missing() for name in ENGINES}
    return [
        {"engine": name, "runs here": "no" if why else "yes", "reason, and what to do": why}
        for name, why in reasons.items()
    ]


def _sensors() -> Sequence[Mapping[str, Any]]:
    from ..runtime.profile.sensors import Jetson, Nvml, Processor

    rows = []
    for sensor in (Processor(), Jetson(), Nvml()):
        absent = sensor.absent()
        told = [] if absent else sorted({reading.quantity for reading in sensor.read()})
        rows.append({"sensor": sensor.name, "measures": told, "reason if nothing": absent})
    return rows


def _packages() -> Sequence[Mapping[str, Any]]:
    from ..runtime.machine.machine import PACKAGES, versions

    return [
        {
            "package": name,
            "version": found or "not installed",
            "install": None if found else _install(name, PACKAGES[name]),
        }
        for name, found in versions().items()
    ]


def _install(package: str, extra: str | None) -> str:
    if package == "tensorrt":
        return "part of JetPack; elsewhere pip install tensorrt"
    return f"pip install 'vtp-toolkit[{extra}]'" if extra else f"pip install {package}"


def _models(room: float, form: str) -> Sequence[Mapping[str, Any]]:
    from ..export.source.footprint import footprint
    from ..export.source.presets import PRESETS

    rows = []
    for name, preset in PRESETS.items():
        if preset.size is None:
            continue
        needs = footprint(*preset.size)
        row: dict[str, Any] = {"preset": name}
        for keep in _KEEPS:
            size = needs.cache_bytes(keep)
            row[f"KV at keep {keep}"] = size if form == "json" else f"{size / 1e9:.2f} GB"
        for precision in _PRECISIONS:
            most, size = needs.largest_keep(precision, room), needs.needs(precision, 0.1)
            row[precision] = (
                {"bytes at keep 0.1": size, "largest keep": most}
                if form == "json"
                else f"{size / 1e9:.1f} GB: {_fits(most)}"
            )
        rows.append(row)
    return rows


def _fits(largest_keep: float | None) -> str:
    if largest_keep is None:
        return "no"
    return "fits" if largest_keep == 1 else f"up to keep {largest_keep:.2f}"
