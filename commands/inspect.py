"""``vtp inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import BundleError
from ..runtime.bundle.contract import cache_place, is_cache, kind_of
from ..runtime.bundle.cost import FLOPS_FORMULA, cost
from ..runtime.bundle.keep import show_keeps
from .options import bundle_argument, format_option
from .tables import show

if TYPE_CHECKING:
    from ..runtime.bundle.bundle import Bundle
    from ..runtime.bundle.manifest import HistoryRecord
    from ..runtime.bundle.plan import Plan
    from ..runtime.bundle.variants import VariantRecord


@click.command()
@bundle_argument
@format_option
def inspect(bundle: Path, form: str) -> None:
    """Show what the bundle in DIR contains, whether it is intact, and what can run it.

    \b
    Example:
      vtp inspect out/tiny
      vtp inspect out/tiny --format json
    """
    from ..runtime.bundle.bundle import Bundle

    opened = Bundle(bundle)
    problems: list[BundleError] = []
    sections: dict[str, Sequence[Mapping[str, Any]]] = {
        "bundle": [{"entry": key, "value": value} for key, value in _facts(opened).items()],
        "stages": _stages(opened),
        "graphs": [
            _graph(record, form, opened.manifest.plan.guide is not None)
            for record in opened.manifest.graphs
        ],
        "files": _files(opened, form, problems),
        "variants": [_variant(record) for record in opened.manifest.variants],
        "engines": _engines(opened),
        "history": [_change(record) for record in opened.manifest.history],
    }
    show(sections, form)
    if problems:
        raise problems[0]


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest = bundle.manifest
    plan, language = manifest.plan, manifest.language
    counts = plan.counts(None, 1)
    costs, full = cost(plan, language, counts, 1), plan.tokens * language.kv_bytes_per_token()
    return {
        "model": manifest.model.id,
        "revision": manifest.model.revision,
        "family": manifest.model.family,
        "written by": f"vtp {manifest.vtp}, schema {manifest.schema}",
        "method": plan.name,
        "parameters": _parameters(plan),
        "guide": "yes: it can rank the image tokens of a larger model" if plan.guide else None,
        "needs a guide": "yes (--guide)" if plan.needs_guide else None,
        "positions": plan.positions,
        "image tokens": f"{costs.average:.1f} of {plan.tokens} per layer on average (keep "
        f"{show_keeps(plan.keeps(None))}), "
        + ("can be changed for each request" if plan.drops else "fixed"),
        "patch grid": f"{plan.grid[0]} x {plan.grid[1]}"
        + (" (sample image; other images have other grids)" if manifest.any_size else ""),
        "preprocessing": manifest.preprocessing.kind,
        "language layers": f"{language.layers}, {language.heads} heads, {language.kv_heads} KV",
        "context": f"{language.context} tokens",
        "type": language.dtype,
        "weights": _weights(bundle),
        "KV bytes per token": language.kv_bytes_per_token(),
        "KV bytes per image": f"{costs.kv_bytes:,} (unpruned {full:,})",
        "FLOPs per image": f"{costs.flops:.4g}: {FLOPS_FORMULA}",
        "checked against PyTorch": "the whole model"
        if manifest.golden.layers is None
        else f"vision, first {manifest.golden.layers} of {language.layers} language layers; "
        "samples of every other weight against the checkpoint",
        "largest difference from PyTorch": max(
            (deviation.max_abs for deviation in manifest.golden.measured), default=None
        ),
        "change of logits by rounding weights": max(
            (deviation.max_abs for deviation in manifest.golden.rounding), default=None
        ),
    }


def _change(record: HistoryRecord) -> dict[str, Any]:
    return {
        "when": record.when,
        "what": record.field,
        "old": show_keeps(record.old),
        "new": show_keeps(record.new),
        "why": record.why,
    }


def _weights(bundle: Bundle) -> str:
    """``5,400,000 bytes; int4, symmetric, blocks of 32``."""
    manifest = bundle.manifest
    if (products := manifest.products) is not None:
        left = f", except {len(products.left)} parts" if products.left else ""
        return (
            f"{manifest.weights.bytes:,} bytes; matrix products in {products.form}, with "
            f"activations{left} (calibrated at keep {show_keeps(products.keep)})"
        )
    size, how = f"{manifest.weights.bytes:,} bytes", manifest.language.weights
    return size if how is None else f"{size}; decoder and head {how.show()}"


def _parameters(plan: Plan) -> str | None:
    shown = [
        f"{record.name}.{name}={value}"
        for record in plan.methods
        for name, value in record.parameters.items()
    ]
    return ", ".join(shown) or None


def _stages(bundle: Bundle) -> list[dict[str, Any]]:
    """What each stage reads of one image at the default keeps, without text."""
    plan = bundle.manifest.plan
    counted = cost(plan, bundle.manifest.language, plan.counts(None, 1), 1)
    drops = {drop.layer: drop for drop in plan.drops}
    arriving, rows = plan.tokens, []
    for stage in counted.stages:
        drop = drops.get(stage.first)
        rows.append(
            {
                "layers": f"{stage.first}..{stage.stop - 1}",
                "drop by": drop.score if drop else None,
                "from layer": drop.score_layer if drop else None,
                "budget": drop.budget if drop else None,
                "tokens in": arriving,
                "kept": stage.image_tokens,
                "FLOPs": f"{stage.flops:.4g}",
                "KV bytes": stage.kv_bytes,
            }
        )
        arriving = stage.image_tokens
    return rows


def _graph(record: Any, form: str, guides: bool) -> dict[str, Any]:
    row = {
        "graph": record.name,
        "target": record.target,
        "file": record.file,
        "opset": record.opset,
        "bytes": record.bytes,
        "computes": kind_of(record.name, guides).about,
    }
    for side in ("inputs", "outputs"):
        specs = getattr(record, side)
        if form == "json":
            row[side] = [{"name": s.name, "dtype": s.dtype, "shape": s.shape} for s in specs]
        else:
            row[side] = "  ".join(_spec(spec) for spec in _without_repeats(specs))
    return row


def _variant(variant: VariantRecord) -> dict[str, Any]:
    limits = variant.limits
    return {
        "variant": variant.name,
        "engine": f"{variant.engine} {variant.version}",
        "cards": ", ".join(variant.compute_capabilities) or "chosen by the library",
        "machine": variant.machine,
        "CUDA": variant.cuda,
        "target": variant.target,
        "selection": variant.topk,
        "plugin": variant.plugin,
        "max tokens": limits.tokens,
        "max images": limits.images,
        "max frames per video": limits.frames or None,
        "max tiles per image": limits.tiles if limits.tiles > 1 else None,
        "max tokens per image": limits.rows,
        "max kept tokens per tile": ", ".join(map(str, limits.counts)) or None,
        "bytes": sum(record.bytes for record in variant.engines),
    }


def _without_repeats(specs: Any) -> list[Any]:
    """The caches of all layers have one shape: layer 0 stands for them."""
    return [s for s in specs if not is_cache(s.name) or cache_place(s.name)[0] == 0]


def _spec(spec: Any) -> str:
    return f"{spec.name} {spec.dtype}[{','.join(str(dim) for dim in spec.shape)}]"


def _files(bundle: Bundle, form: str, problems: list[BundleError]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = []
    for record in (*bundle.records(), *bundle.engine_records()):
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

    reasons = {name: why_not(name, bundle.manifest) for name in ENGINES}
    return [
        {"engine": name, "runs here": "no" if reason else "yes", "reason": reason}
        for name, reason in reasons.items()
    ]
