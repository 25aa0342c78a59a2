"""This runtime against Hugging Face transformers: ``python -m vtp.bench.compare --model tiny``.

``tiny`` is the sample model; ``real`` has the sizes of CLIP-L/14-336 with TinyLlama-1.1B and random
weights (see ``real_model``). Both sides take turns in one process on the CPU, with float32, the
same threads, the same image and prompt and the same number of decoded tokens; the first repetition
is a warm-up and is not counted. Load time and memory come from one fresh process for each side.
Model folder and bundle are made once, in ``--work``. Tables go to stdout, progress to stderr, all
figures to ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from ..export.exporter import ExportOptions, Progress, export_model
from ..export.source.presets import TINY
from ..runtime.bundle.manifest import FILE_NAME
from .floors import Machine, Work
from .measure import KEEPS, Comparison
from .real_model import make_real_model
from .report import ratios, tables, targets
from .selection import selection_ms
from .sides import HuggingFace, Ours

DEFAULTS = {"tiny": (20, 64), "real": (5, 16)}
"""Repetitions and decoded tokens of each model."""
_FRESH_KEEPS = (1.0, 0.1)
_IMPORTS = 9


class _Progress(Progress):
    def step(self, text: str) -> None:
        _announce(f"export: {text}")


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def prepare(model: str, work: Path, again: bool = False) -> tuple[Path, Path]:
    """Model folder and bundle, made where they are missing; ``tiny`` is always exported anew.

    Args:
        model: ``tiny`` or ``real``.
        work: where to make them.
        again: export even if the bundle is there.
    """
    folder = TINY if model == "tiny" else make_real_model(work / "real")
    bundle = work / f"{model}-fastervlm"
    if again or model == "tiny" or not (bundle / FILE_NAME).is_file():
        source = "tiny" if model == "tiny" else str(folder)
        export_model(source, bundle, ExportOptions(method="fastervlm", force=True), _Progress())
    return folder, bundle


def fresh(folder: Path, bundle: Path, threads: int, steps: int) -> dict[str, Any]:
    """Load time and memory of each side, each in a process of its own."""
    cases = {f"vtp, keep {keep:g}": ("ours", bundle, keep) for keep in _FRESH_KEEPS}
    cases["Hugging Face"] = ("hf", folder, 1.0)
    found = {}
    for name, (side, path, keep) in cases.items():
        arguments = [side, str(path), str(threads), str(steps), str(keep)]
        out = _python(["-m", "vtp.bench.fresh", *arguments])
        found[name] = json.loads(out.strip().splitlines()[-1])
    return found


def import_seconds() -> dict[str, float]:
    """How much longer Python takes with ``import vtp.runtime`` than without; in turn."""
    spent = []
    for _ in range(_IMPORTS + 1):
        pair = []
        for code in ("pass", "import vtp.runtime"):
            started = perf_counter()
            _python(["-c", code])
            pair.append(perf_counter() - started)
        spent.append(pair[1] - pair[0])
    counted = spent[1:]
    return {"median": median(counted), "min": min(counted), "max": max(counted)}


def _python(arguments: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def compare(
    model: str, folder: Path, bundle: Path, threads: int, repeat: int, steps: int
) -> dict[str, Any]:
    """Measure everything; see the module."""
    import torch

    load_before = os.getloadavg()[0]
    _announce("import time")
    imported = import_seconds()
    _announce("load time and memory")
    loads = fresh(folder, bundle, threads, steps)
    _announce("loading both sides")
    ours = Ours(bundle, threads, steps)
    theirs = HuggingFace(folder, threads)
    work = Work(config=theirs.model.config)
    machine = Machine(work.products(ours.length(1.0)), threads)
    run = Comparison(ours, theirs, steps, machine)
    with torch.inference_mode():
        differences = run.check()
        run.run(repeat, _announce)
        _announce("Hugging Face with StaticCache")
        static = run.run_static(min(3, repeat))
    times = {key: series.summary() for key, series in run.series.items()}
    times["hf decode dynamic"], times["hf decode static"] = times["hf decode"], static.summary()
    dynamic = times["hf decode"]["median"] <= times["hf decode static"]["median"]
    times["hf decode"] = times["hf decode dynamic" if dynamic else "hf decode static"]
    kept = ours.kept(0.1)
    selection = selection_ms(bundle / ours.manifest.graph("vision", "ort").file, kept, threads)
    results: dict[str, Any] = {
        "model": model,
        "threads": threads,
        "repeat": repeat,
        "decoded": steps,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("onnxruntime", "torch", "transformers", "numpy")},
        "machine": {
            "cpu": _cpu(),
            "load_before": load_before,
            "rates": {"matrix": machine.matrix, "read": machine.read},
        },
        "tokens": {f"{keep:g}": ours.length(keep) for keep in KEEPS},
        "differences": differences,
        "times": times,
        "answered": run.answered,
        "hf_cache": "DynamicCache" if dynamic else "StaticCache",
        "floors_ms": _floors(ours, work, machine, steps),
        "selection_ms": selection,
        "import_s": imported,
        "fresh": loads,
    }
    results["ratios"] = ratios(results)
    results["targets"] = targets(results)
    return results


def _floors(ours: Ours, work: Work, machine: Machine, steps: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {"vision": {}, "prefill": {}, "decode": {}}
    for keep in KEEPS:
        name, tokens = f"{keep:g}", ours.length(keep)
        filled = tokens + (steps + 1) / 2
        found["vision"][name] = 1e3 * work.vision(ours.kept(keep)) / machine.matrix_rate
        found["prefill"][name] = 1e3 * work.prefill(tokens) / machine.matrix_rate
        found["decode"][name] = 1e3 * work.decode_bytes(filled) / machine.bandwidth
    return found


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if line.startswith("model name"):
            return f"{line.partition(':')[2].strip()}, {os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m vtp.bench.compare", description=__doc__)
    parser.add_argument("--model", choices=list(DEFAULTS), default="tiny")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of both sides"
    )
    parser.add_argument("--repeat", type=int, help="repetitions that are counted")
    parser.add_argument("--steps", type=int, help="tokens decoded per repetition")
    parser.add_argument(
        "--work", type=Path, default=Path("out") / "bench", help="folder for model files"
    )
    parser.add_argument("--again", action="store_true", help="export even if the bundle exists")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write all figures to this JSON file"
    )
    given = parser.parse_args(arguments)
    repeat, steps = DEFAULTS[given.model]
    given.work.mkdir(parents=True, exist_ok=True)
    folder, bundle = prepare(given.model, given.work, given.again)
    results = compare(
        given.model, folder, bundle, given.threads, given.repeat or repeat, given.steps or steps
    )
    print(tables(results))
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
