"""``vtp verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.bundle.keep import show_keeps
from .options import bundle_argument, engine_options, format_option
from .tables import show

if TYPE_CHECKING:
    from ..runtime.bundle.manifest import Deviation, Manifest


@click.command()
@bundle_argument
@engine_options
@format_option
def verify(bundle: Path, engine: str, threads: int | None, form: str) -> None:
    """Replay the golden sample of the bundle in DIR and compare it with PyTorch.

    All targets or variants that the engine supports run; the first graph that deviates is named.
    Without --engine, every engine of this machine is used in turn. If a bundle was checked only in
    part at export, the same part is compared: the vision graph and the first language layers.

    \b
    Example:
      vtp verify out/tiny
      vtp verify out/tiny --engine cpu --format json
    """
    from ..runtime import Bundle
    from ..runtime.engines import ENGINES, make_engine, why_not
    from ..runtime.verify.verify import verify_bundle

    opened = Bundle(bundle)
    manifest = opened.manifest
    rows: list[dict[str, Any]] = []
    able = [name for name in ENGINES if why_not(name, manifest) is None]
    for name in able if engine == "auto" and able else [engine]:
        for choice in make_engine(name, manifest).choices(manifest):
            ran, deviations = verify_bundle(opened, name, threads=threads, choice=choice)
            rows += _worst(ran, deviations)
    show({f"largest deviation from PyTorch, by output{_extent(manifest)}": rows}, form)


def _extent(manifest: Manifest) -> str:
    layers = manifest.golden.layers
    if layers is None:
        return ""
    return f"; checked: vision, first {layers} of {manifest.language.layers} language layers"


def _worst(engine: str, deviations: list[Deviation]) -> list[dict[str, Any]]:
    """One row for each graph, keep and output; decode steps count as one output."""
    worst: dict[tuple[Any, ...], Deviation] = {}
    for deviation in deviations:
        output = deviation.output.partition("[")[0]
        key = (deviation.target, deviation.graph, deviation.keep, output)
        if key not in worst or deviation.max_abs > worst[key].max_abs:
            worst[key] = deviation
    return [
        {
            "engine": engine,
            "target": target,
            "graph": graph,
            "keep": show_keeps(keep),
            "output": output,
            "max": d.max_abs,
            "mean": d.mean_abs,
            "cosine": round(d.cosine, 9),
        }
        for (target, graph, keep, output), d in worst.items()
    ]
