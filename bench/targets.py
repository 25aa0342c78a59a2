"""What more targets cost an export: ``python -m vtp.bench.targets``.

Exports a model with one target and with all of them in turns, each in a process of its own, and
prints processor seconds. A graph is traced once, whatever the number of targets, so that the floor
is the time with one target; what is added is lowering, writing and checking the other graph files.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ..export.targets import TARGETS

ONE = ("ort",)
METHODS = ("fastervlm", "pyramiddrop")


def processor_seconds(model: str, method: str, targets: tuple[str, ...], out: Path) -> float:
    """Of one ``vtp export``, import and check included."""
    command = [sys.executable, "-m", "vtp", "export", model, "--method", method, "--out", str(out)]
    for target in targets:
        command += ["--target", target]
    # Threads that wait for each other would count as work.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VTP_TRACE_CACHE": ""}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command, "--force"], check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m vtp.bench.targets", description=__doc__)
    parser.add_argument("--model", default="tiny", help="preset, folder or hub id")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: both")
    parser.add_argument("--repeat", type=int, default=3, help="exports of each kind")
    chosen = parser.parse_args(arguments)
    print("| method | one target, s | all targets, s | ratio |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for method in chosen.method or METHODS:
            spent: dict[tuple[str, ...], list[float]] = {ONE: [], tuple(TARGETS): []}
            for _ in range(chosen.repeat):
                for targets, seconds in spent.items():
                    out = Path(folder) / "out"
                    seconds.append(processor_seconds(chosen.model, method, targets, out))
            one, every = (statistics.median(seconds) for seconds in spent.values())
            print(f"| {method} | {one:.1f} | {every:.1f} | {every / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
