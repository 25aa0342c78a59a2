"""Everything that needs an NVIDIA device, in one run: ``python -m vtp.bench.gpu``.

Runs with what is installed, needs no network, and says why it skips something. Each check runs in a
separate process, so that a crash does not affect the others. Prints a report in Markdown for
``docs/benchmarks.md``, and one JSON document as the last line.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

CHECKS = {
    "machine": "hardware and versions",
    "kernel": "the selection kernel against the NumPy reference, the floor, and torch",
    "engines": "every engine against the golden sample; time to the first token and decode",
    "profile": "vtp profile on every engine: the clock of the device, sensors, energy",
    "transformers": "a model of real size against Hugging Face transformers on the same card",
}
"""Module of a check -> what it shows."""
_LIMIT_S = 1200


def run_check(name: str, work: Path, bundle: Path | None) -> dict[str, Any]:
    """The result of one check: ``rows`` and ``notes``, or ``skipped`` or ``failed``."""
    command = [sys.executable, "-m", "vtp.bench.gpu", "--check", name, "--work", str(work)]
    if bundle is not None:
        command += ["--bundle", str(bundle)]
    began = perf_counter()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"took longer than {_LIMIT_S} s"}
    lines = done.stdout.strip().splitlines()
    try:
        found: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"failed": f"ended with status {done.returncode} and no result"}
    return {**found, "seconds": round(perf_counter() - began, 1)}


def report(results: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    lines: list[str] = []
    for name, result in results.items():
        lines += ["", f"### {name}: {CHECKS[name]}", ""]
        for kind in ("skipped", "failed"):
            if kind in result:
                lines.append(f"{kind}: {result[kind]}")
        rows = result.get("rows", [])
        if rows:
            columns = list(dict.fromkeys(column for row in rows for column in row))
            lines.append(f"| {' | '.join(columns)} |")
            lines.append("|" + " --- |" * len(columns))
            lines += [f"| {' | '.join(str(row.get(c, '')) for c in columns)} |" for row in rows]
        lines += [f"- {note}" for note in result.get("notes", [])]
    return "\n".join(lines[1:])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m vtp.bench.gpu", description=__doc__)
    parser.add_argument("checks", nargs="*", default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--check", choices=CHECKS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, default=Path("out") / "gpu")
    parser.add_argument("--bundle", type=Path, help="bundle of tiny (default: it is exported)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.check:
        check = import_module(f"vtp.bench.gpu.{options.check}")
        print(json.dumps(_guarded(check, options.work, options.bundle)))
        return
    results = {}
    for name in options.checks:
        print(f"{name}: {CHECKS[name]}", file=sys.stderr, flush=True)
        results[name] = run_check(name, options.work, options.bundle)
    print(report(results))
    print(json.dumps(results))
    if any("failed" in result for result in results.values()):
        sys.exit(1)


def _guarded(check: Any, work: Path, bundle: Path | None) -> dict[str, Any]:
    """The check's result; what it raises is its result too, the run goes on."""
    from .skip import Skip

    try:
        found: dict[str, Any] = check.run(work, bundle)
    except Skip as error:
        return {"skipped": str(error)}
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    return found


if __name__ == "__main__":
    main()
