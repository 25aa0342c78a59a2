"""``vtp inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BundleError
from .options import bundle_argument, format_option
from .tables import show

if TYPE_CHECKING:
    from ..runtime.bundle import Bundle


@click.command()
@bundle_argument
@format_option
def inspect(bundle: Path, form: str) -> None:
    """Show what the bundle in DIR holds, whether its files are intact, and what can run it here.

    \b
    Example:
      vtp inspect out/tiny
      vtp inspect out/tiny --format json
    """
    from ..runtime.bundle import Bundle

    opened = Bundle(bundle)
    problems: list[BundleError] = []
    sections: dict[str, Sequence[Mapping[str, Any]]] = {
        "bundle": [{"entry": key, "value": value} for key, value in _facts(opened).items()],
        "graphs": [_graph(record, form) for record in opened.manifest.graphs],
        "files": _files(opened, form, problems),
        "engines": _engines(opened),
    }
    show(sections, form)
    if problems:
        raise problems[0]


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    plan, language = manifest.plan, manifest.language
    kept = plan.count(None)
    score = "none" if plan.score_layer is None else f"attention of vision layer {plan.score_layer}"
    return {
        "model": manifest.model.id,
        "revision": manifest.model.revision,
        "family": manifest.model.family,
        "written by": f"vtp {manifest.vtp}, schema {manifest.schema}",
        "method": plan.method,
        "parameters": ", ".join(f"{k}={v}" for k, v in plan.parameters.items()) or None,
        "score": score,
        "positions": plan.positions,
        "image tokens kept": f"{kept} of {plan.tokens} (keep {plan.keep}), "
        + ("any other at run time" if plan.prunes else "fixed"),
        "patch grid": f"{plan.grid[0]} x {plan.grid[1]}",
        "image size": f"{manifest.preprocessing.width} x {manifest.preprocessing.height}",
        "language layers": f"{language.layers}, {language.heads} heads, {language.kv_heads} KV",
        "context": f"{language.context} tokens",
        "KV bytes per token": language.kv_bytes_per_token(),
        "KV bytes of an image": f"{kept * language.kv_bytes_per_token():,} "
        f"(unpruned {plan.tokens * language.kv_bytes_per_token():,})",
        "largest difference from PyTorch": max(
            (deviation.max_abs for deviation in manifest.golden.measured), default=None
        ),
    }


def _graph(record: Any, form: str) -> dict[str, Any]:
    row = {
        "graph": record.name,
        "target": record.target,
        "file": record.file,
        "opset": record.opset,
        "bytes": record.bytes,
    }
    for side in ("inputs", "outputs"):
        specs = getattr(record, side)
        if form == "json":
            row[side] = [{"name": s.name, "dtype": s.dtype, "shape": s.shape} for s in specs]
        else:
            row[side] = "  ".join(_spec(spec) for spec in _without_repeats(specs))
    return row


def _without_repeats(specs: Any) -> list[Any]:
    """The caches of all layers have one shape: layer 0 stands for them."""
    return [s for s in specs if not s.name.startswith(("past", "present")) or ".0." in s.name]


def _spec(spec: Any) -> str:
    return f"{spec.name} {spec.dtype}[{','.join(str(dim) for dim in spec.shape)}]"


def _files(bundle: Bundle, form: str, problems: list[BundleError]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for record in bundle.records():
        problem = bundle.problem(record)
        if problem is not None:
            problems.append(problem)
        rows.append(
            {
                "file": record.file,
                "bytes": record.bytes,
                "sha256": record.sha256 if form == "json" else record.sha256[:12],
                "state": "intact" if problem is None else str(problem),
            }
        )
    return rows


def _engines(bundle: Bundle) -> list[Mapping[str, Any]]:
    from ..runtime.engines import ENGINES, why_not

    targets = bundle.manifest.targets()
    reasons = {name: why_not(name, targets) for name in ENGINES}
    return [
        {"engine": name, "runs here": "no" if reason else "yes", "why not": reason}
        for name, reason in reasons.items()
    ]
