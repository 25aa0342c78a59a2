"""Export of a model larger than memory, compared with a plain copy of its bytes:

    python -m vtp.bench.export --size 7b --work out/bench-export
    python -m vtp.bench.export --size 1.1b --rival /path/of/a/venv/bin/python

Makes a checkpoint of random weights (13.5 GB of float16 for ``7b``), copies it, copies and hashes
it, exports it, and prints times, memory and disk usage. Before each step, the checkpoint is dropped
from the page cache and pending writes are flushed. ``--rival`` names a Python that has
onnxruntime-genai: its model builder then exports a decoder of the same size.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..samples.checkpoints.sizes import SIZES
from ..samples.make_checkpoint import make_checkpoint
from .rival_export import rival_command, write_decoder

RSS_LIMIT = 2.5e9
"""Bytes that the export's processes may have at once, to reach."""
WALL_FACTOR = 1.3
"""Times the copy that an export may take beside its tracing, to reach."""
_BLOCK = 2**24
_PERIOD = 0.2


def tree_memory(root: int) -> int:
    """Bytes that a process and its living descendants had at most, each at its own peak."""
    parents: dict[int, tuple[int, int]] = {}
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":", 1) for line in path.read_text().splitlines())
        except (OSError, ValueError):
            continue  # it ended meanwhile
        most = int(lines.get("VmHWM", "0 kB").split()[0]) * 1024
        parents[int(path.parent.name)] = (int(lines["PPid"]), most)
    family = {root}
    while grown := {pid for pid, (parent, _) in parents.items() if parent in family} - family:
        family |= grown
    return sum(parents[pid][1] for pid in family if pid in parents)


def measured(command: Sequence[str]) -> dict[str, Any]:
    """Run a command; its wall time, its peak memory, and when each line of its stderr came."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    before = used.ru_utime + used.ru_stime
    began = time.perf_counter()
    steps: list[tuple[float, str]] = []
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        told = ((time.perf_counter() - began, line.strip()) for line in process.stderr)
        reader = threading.Thread(target=steps.extend, args=(told,))
        reader.start()
        peak = 0
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(_PERIOD)
        wall = time.perf_counter() - began
        reader.join()
    if process.returncode:
        raise SystemExit(f"{command} failed: {steps[-5:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": wall,
        "peak": peak,
        "steps": steps,
        "processor": used.ru_utime + used.ru_stime - before,
    }


def step_times(steps: list[tuple[float, str]], wall: float) -> dict[str, float]:
    """Seconds of each part of an export, from the lines that announce them."""
    found: dict[str, float] = {"start": steps[0][0] if steps else wall}
    kinds = ("reading", "tracing", "writing", "running PyTorch", "checking target")
    known = [(at, text) for at, text in steps if text.startswith(kinds)]
    for (at, text), after in zip(known, [*(at for at, _ in known[1:]), wall], strict=True):
        kind = next(kind for kind in kinds if text.startswith(kind))
        found[kind] = found.get(kind, 0.0) + after - at
    return found


def copied(source: Path, out: Path, hashed: bool) -> float:
    """Seconds to copy the weight files, with their sha256 or as the system copies."""
    _settle(source)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    began = time.perf_counter()
    for path in sorted(source.glob("*.safetensors")):
        if not hashed:
            shutil.copyfile(path, out / path.name)
            continue
        digest, buffer = hashlib.sha256(), bytearray(_BLOCK)
        with path.open("rb", buffering=0) as file, (out / path.name).open("wb") as copy:
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
                copy.write(memoryview(buffer)[:count])
    took = time.perf_counter() - began
    shutil.rmtree(out)
    return took


def _settle(source: Path) -> None:
    """Write what waits to be written, and forget what was read."""
    os.sync()
    for path in source.glob("*.safetensors"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def size_of(folder: Path) -> int:
    """Bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run(size: str, work: Path, targets: Sequence[str], rival: str | None) -> dict[str, Any]:
    """Measure everything; see the module."""
    model, bundle = work / f"llava-{size}", work / "bundle"
    if not model.is_dir():
        make_checkpoint("llava", size, model, "float16", shards=3)
    result: dict[str, Any] = {
        "machine": f"{os.cpu_count()} CPUs, {platform.machine()}, {platform.platform()}",
        "load": os.getloadavg()[0],
        "checkpoint": size_of(model),
        "copy": copied(model, work / "copy", hashed=False),
        "copy and sha256": copied(model, work / "copy", hashed=True),
    }
    _settle(model)
    arguments = ["export", str(model), "--dtype", "float16", "--check", "layers:1", "--force"]
    arguments += [word for target in targets for word in ("--target", target)]
    export = measured([sys.executable, "-m", "vtp", *arguments, "--out", str(bundle)])
    result |= {"export": export, "parts": step_times(export["steps"], export["seconds"])}
    result["bundle"] = size_of(bundle)
    shutil.rmtree(bundle)
    result["load after"] = os.getloadavg()[0]
    if rival is not None:
        decoder = work / f"decoder-{size}"
        if not decoder.is_dir():
            write_decoder(decoder, SIZES["llava"][size].text)
        _settle(decoder)
        out = work / "rival"
        result["rival"] = measured(rival_command(rival, decoder, out))
        result["rival bytes"] = size_of(out)
        shutil.rmtree(out)
    return result


def rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is printed."""
    gigabytes: Callable[[float], str] = lambda n: f"{n / 1e9:.2f} GB"  # noqa: E731
    seconds: Callable[[float], str] = lambda n: f"{n:.1f} s"  # noqa: E731
    export, parts, copy = result["export"], result["parts"], result["copy"]
    yield "machine", result["machine"]
    yield "load average before, after", f"{result['load']:.1f}, {result['load after']:.1f}"
    yield "checkpoint, bundle", f"{gigabytes(result['checkpoint'])}, {gigabytes(result['bundle'])}"
    yield "plain copy", seconds(copy)
    yield "copy with sha256", seconds(result["copy and sha256"])
    yield "export, wall", seconds(export["seconds"])
    for part, took in parts.items():
        yield f"  {part}", seconds(took)
    yield "export, processor time", seconds(export["processor"])
    yield "peak memory of the export's processes", gigabytes(export["peak"])
    limit = WALL_FACTOR * copy + parts.get("tracing", 0.0)
    yield f"to reach: {WALL_FACTOR} x copy + tracing", seconds(limit)
    yield "  reached", "yes" if export["seconds"] <= limit else "no"
    writing = parts.get("writing", 0.0)
    yield "  writing alone over the copy", f"{writing / copy:.2f} x"
    yield "to reach: memory", gigabytes(RSS_LIMIT)
    yield "  reached", "yes" if export["peak"] < RSS_LIMIT else "no"
    if "rival" in result:
        yield (
            "onnxruntime-genai's builder, the decoder alone, wall",
            seconds(result["rival"]["seconds"]),
        )
        yield "  peak memory of its processes", gigabytes(result["rival"]["peak"])
        yield "  output", gigabytes(result["rival bytes"])


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vtp.bench.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--size", choices=list(SIZES["llava"]), default="7b")
    parser.add_argument("--work", type=Path, default=Path("out/bench-export"))
    parser.add_argument("--target", action="append", help="target of the export (default: ort)")
    parser.add_argument("--rival", help="path of a Python with onnxruntime-genai")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write all figures to this JSON file"
    )
    parser.add_argument("--keep-work", action="store_true", help="keep the checkpoint")
    given = parser.parse_args(arguments)
    try:
        result = run(given.size, given.work, given.target or ["ort"], given.rival)
    finally:
        if not given.keep_work:
            shutil.rmtree(given.work, ignore_errors=True)
    for name, value in rows(result):
        print(f"| {name} | {value} |")
    if given.out is not None:
        given.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
