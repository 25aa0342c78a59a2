"""Every engine that is here against the golden sample of ``tiny``, and how long it takes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from ...errors import VtpError
from ...runtime.bundle.bundle import Bundle
from ...runtime.chat.pipeline import Pipeline, load
from ...runtime.engines import ENGINES, engine_class
from ...runtime.engines.tensorrt.flavours import FLAVOURS
from ...runtime.media.images import load_image
from ...runtime.verify.verify import replay
from .skip import Skip, need_device

KEEPS = (1.0, 0.5, 0.25, 0.1, 0.05)
_REPEAT = 20


def run(work: Path, bundle: Path | None) -> dict[str, Any]:
    """Build what can be built, then replay and time every engine."""
    need_device()
    folder = bundle_for(work, bundle)
    notes = build_all(folder)
    return {"rows": on_each(folder, notes, times), "notes": notes}


def on_each(
    folder: Path, notes: list[str], measure: Callable[[Pipeline, str], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Rows that ``measure`` makes of the bundle on every engine, told its name; failures and what
    is missing go to notes."""
    rows: list[dict[str, Any]] = []
    for name in ENGINES:
        reason = engine_class(name).missing()
        if reason is not None:
            notes.append(f"{name}: {reason}")
            continue
        for choice in choices(name, folder, notes):
            try:
                rows += measure(load(folder, name, target=choice), f"{name} ({choice})")
            except VtpError as error:
                notes.append(f"{name} ({choice}): {error}")
    return rows


def choices(name: str, folder: Path, notes: list[str]) -> list[str]:
    """What an engine may load of a bundle; what keeps it from loading anything goes to notes."""
    try:
        return engine_class(name)().choices(Bundle(folder).manifest)
    except VtpError as error:
        notes.append(f"{name}: {error}")
        return []


def bundle_for(work: Path, given: Path | None) -> Path:
    """A copy of the bundle that was given, or the sample model, exported."""
    folder = work / "tiny"
    if folder.exists():
        shutil.rmtree(folder)
    if given is not None:
        shutil.copytree(given, folder)
        return folder
    try:
        from ...export import ExportOptions, export_model
    except ImportError as error:
        raise Skip(f"no bundle was given (--bundle), and none can be exported: {error}") from error
    export_model("tiny", folder, ExportOptions(keep=0.1, targets=("ort", "onnx", "trt10")))
    return folder


def build_all(folder: Path) -> list[str]:
    """Build with every TensorRT that is here; returns what went wrong."""
    from ...runtime.engines.cuda_memory import Cuda
    from ...runtime.engines.tensorrt.variant import TOPK, BuildOptions, build_variant

    notes = []
    capability = Cuda("engine check").capability
    for name, flavour in FLAVOURS.items():
        if not flavour.installed():
            continue
        cards = (capability,) if flavour.builds_for_other_cards else ()
        for topk in TOPK:
            options = BuildOptions(
                engine=name, topk=topk, name=f"{name}-{topk}", compute_capabilities=cards
            )
            try:
                build_variant(folder, options)
            except VtpError as error:
                notes.append(f"vtp build --engine {name} --topk {topk}: {error}")
    return notes


def times(pipeline: Pipeline, name: str) -> list[dict[str, Any]]:
    """One row a keep: the golden sample, how far it is off and how long it takes."""
    worst = max(deviation.max_abs for deviation in replay(pipeline))
    golden = pipeline.bundle.manifest.golden
    image = load_image(pipeline.bundle.file(golden.image))
    rows = []
    for keep in KEEPS:
        results = [
            pipeline.generate(image, golden.prompt, keep=keep, max_new_tokens=16)
            for _ in range(_REPEAT + 1)
        ][1:]
        rows.append(
            {
                "engine": name,
                "keep": keep,
                "image tokens": results[0].image_tokens,
                "first token after, ms": f"{median(r.timings.ttft_ms for r in results):.2f}",
                "decode, ms per token": f"{median(r.timings.ms_per_token for r in results):.2f}",
                "largest difference from PyTorch": f"{worst:.1e}",
            }
        )
    return rows
