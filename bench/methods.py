"""Compare all methods on one model: ``python -m vtp.bench.methods --model real METHOD ...``.

Exports the model with each method in turn, answers a question several times in a separate process,
and prints a table: image tokens that a layer reads on average, FLOPs of the prefill, times of
vision, prefill, first token and decode, peak memory, and the KV cache, allocated and predicted by
the plan. A method that needs a guide gets one: the smaller sample model, or at real size a decoder
of 0.2 G parameters with the same tower; the time of the guide is part of the time to the first
token. Bundles of the real model take 5.6 GB each; ``--discard`` removes each one after measuring.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from .fresh import peak_rss

METHODS = (
    "none",
    "fastervlm",
    "vtc-cls",
    "visionzip",
    "vispruner",
    "divprune",
    "cdpruner",
    "fopru",
    "fastv",
    "pyramiddrop",
    "sparsevlm:128",
    "sparsevlm:v2-128",
    "fastervlm+pyramiddrop",
    "sgl",
)
_GUIDE = "guide"


def measure(
    bundle: Path, threads: int, steps: int, repeat: int, average: float, guide: Path | None = None
) -> dict[str, Any]:
    """Answer ``repeat`` times after one answer that is not counted."""
    from ..runtime.chat.pipeline import load
    from ..runtime.media.images import load_image

    pipe = load(bundle, "cpu", threads=threads, guide=guide)
    manifest = pipe.bundle.manifest
    image = load_image(pipe.bundle.file(manifest.golden.image))
    times: dict[str, list[float]] = {
        phase: [] for phase in ("guide", "vision", "prefill", "ttft", "decode")
    }
    for number in range(repeat + 1):
        result = pipe.generate(
            image,
            manifest.golden.prompt,
            average=average if manifest.plan.drops else None,
            max_new_tokens=steps + 1,
        )
        if number:
            timings = result.timings
            times["guide"].append(result.guide.ms if result.guide else 0.0)
            times["vision"].append(timings.vision_ms)
            times["prefill"].append(timings.prefill_ms)
            times["ttft"].append(timings.ttft_ms)
            times["decode"].append(timings.ms_per_token)
    return {
        "average": result.average_tokens,
        "stages": [stage.image_tokens for stage in result.stages],
        "gflop": sum(stage.flops for stage in result.stages) / 1e9,
        **{name: median(values) for name, values in times.items()},
        "ttft_min": min(times["ttft"]),
        "peak_gb": peak_rss() / 1e9,
        "kv_allocated": result.cache_bytes,
        "kv_predicted": sum(stage.kv_bytes for stage in result.stages),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines = [
        "| method | image tokens by stage | mean | prefill, GFLOP | guide, ms | vision, ms "
        "| prefill, ms | first token after, ms (lowest) | decode, ms per token | peak memory, GB "
        "| KV cache, MB (predicted) |",
        "|---" * 11 + "|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| `{name}` | {', '.join(map(str, row['stages']))} | {row['average']:.1f} "
            f"| {row['gflop']:.0f} | {row['guide']:.0f} | {row['vision']:.0f} "
            f"| {row['prefill']:.0f} "
            f"| {row['ttft']:.0f} ({row['ttft_min']:.0f}) | {row['decode']:.1f} "
            f"| {row['peak_gb']:.2f} | {row['kv_allocated'] / 1e6:.2f} "
            f"({row['kv_predicted'] / 1e6:.2f}) |"
        )
    return "\n".join(lines)


def _export(model: str, work: Path, method: str) -> Path:
    from ..export import ExportOptions, export_model

    bundle = work / f"{model}-{method.replace('+', '-').replace(':', '-')}"
    if not (bundle / "manifest.json").is_file():
        export_model(_source(model, work, method), bundle, ExportOptions(method=method))
    return bundle


def _source(model: str, work: Path, method: str) -> str:
    from .real_model import GUIDE_DECODER, make_real_model

    if model == "tiny":
        return "tiny-guide" if method == _GUIDE else "tiny"
    if method == _GUIDE:
        return str(make_real_model(work / "real-guide-model", GUIDE_DECODER))
    return str(make_real_model(work / "real-model"))


def _guide_for(bundle: Path, model: str, work: Path) -> Path | None:
    from ..runtime.bundle.bundle import Bundle

    return _export(model, work, _GUIDE) if Bundle(bundle).manifest.plan.needs_guide else None


def _in_process(bundle: Path, guide: Path | None, *settings: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "vtp.bench.methods", "--one", str(bundle)]
    command += map(str, settings)
    if guide is not None:
        command.append(str(guide))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["--one"]:
        folder, threads, steps, repeat, average, *guides = given[1:]
        guide = Path(guides[0]) if guides else None
        found = measure(Path(folder), int(threads), int(steps), int(repeat), float(average), guide)
        print(json.dumps(found))
        return
    parser = argparse.ArgumentParser(prog="python -m vtp.bench.methods", description=__doc__)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--model", choices=["tiny", "real"], default="tiny")
    parser.add_argument(
        "--average", type=float, default=0.5, help="share of the image tokens that a layer reads"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--steps", type=int, default=16, help="tokens decoded")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("out") / "bench")
    parser.add_argument("--discard", action="store_true", help="remove each bundle after use")
    options = parser.parse_args(given)
    options.work.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, Any]] = {}
    for method in options.methods:
        print(f"{method}: exporting", file=sys.stderr, flush=True)
        bundle = _export(options.model, options.work, method)
        guide = _guide_for(bundle, options.model, options.work)
        print(f"{method}: measuring", file=sys.stderr, flush=True)
        settings = (options.threads, options.steps, options.repeat, options.average)
        rows[method] = _in_process(bundle, guide, *settings)
        print(table({method: rows[method]}).splitlines()[-1], file=sys.stderr, flush=True)
        if options.discard:
            shutil.rmtree(bundle)
    print(table(rows))
    print(json.dumps({"model": options.model, "average": options.average, "methods": rows}))


if __name__ == "__main__":
    main()
