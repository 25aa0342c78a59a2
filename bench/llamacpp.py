"""Compare four bits, float32 and llama.cpp: ``python -m vtp.bench.llamacpp INT4 FLOAT32``.

INT4 and FLOAT32 are bundles of the same model. llama.cpp runs a decoder of the same dimensions with
random Q4_0 weights, from token ids; the bundles read as many embeddings. llama.cpp has no vision
tower here: its time to the first token includes the vision time of the INT4 bundle. All sides take
turns in one process with the same threads. The first round is a warm-up and is not counted. Ratios
are medians of the ratios of the rounds.

Needs ``pip install llama-cpp-python gguf`` (built from source for this machine).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

from ..export.plan.sample import sample_image
from ..runtime.files.tensorfile import TensorFile
from .floors import Machine
from .gguf_model import write_gguf
from .sides import Ours

KEEPS = (1.0, 0.1)
_REST_S = 0.1
"""Before each timed step: worker threads of the step before may still spin."""


class LlamaCpp:
    """llama.cpp on a GGUF file, through its C interface.

    Args:
        file: the model.
        threads: CPU threads.
        room: most tokens.
    """

    def __init__(self, file: Path, threads: int, room: int) -> None:
        import llama_cpp

        self._lib: Any = llama_cpp
        quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self._quiet = quiet
        llama_cpp.llama_backend_init()
        settings = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(file).encode(), settings)
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx = wanted.n_batch = wanted.n_ubatch = room
        wanted.n_threads = wanted.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, wanted)
        if not self._model or not self._context:
            raise SystemExit(f"Error: llama.cpp does not take {file}")

    def prefill(self, tokens: int) -> None:
        """Read ``tokens`` tokens into an empty cache."""
        memory = self._lib.llama_get_memory(self._context)
        self._lib.llama_memory_clear(memory, True)
        self._decode([7 + number % 100 for number in range(tokens)])

    def decode(self, steps: int) -> None:
        """Read ``steps`` more tokens, one at a time."""
        for number in range(steps):
            self._decode([7 + number])
            self._lib.llama_get_logits(self._context)

    def _decode(self, tokens: list[int]) -> None:
        array = (self._lib.llama_token * len(tokens))(*tokens)
        batch = self._lib.llama_batch_get_one(array, len(tokens))
        if self._lib.llama_decode(self._context, batch):
            raise SystemExit("Error: llama.cpp could not decode")


class Clock:
    """Milliseconds that a call takes, and what it returns.

    Args:
        processor: time that this process spends on processors, so that others do not count.
    """

    def __init__(self, processor: bool) -> None:
        self._now = process_time if processor else perf_counter

    def __call__(self, function: Any, *arguments: Any) -> tuple[float, Any]:
        started = self._now()
        result = function(*arguments)
        return (self._now() - started) * 1e3, result


def measure(
    sides: dict[str, Ours], other: LlamaCpp | None, clock: Clock, repeat: int, steps: int
) -> list[dict[str, float]]:
    """Milliseconds of every step in every round; decode is of one token."""
    image, rounds = sample_image(), []
    first = next(iter(sides.values()))
    for number in range(repeat + 1):
        found: dict[str, float] = {}
        for name in list(sides)[:: 1 if number % 2 else -1]:
            for keep in KEEPS:
                ours, at = sides[name], f"{name} {keep:g}"
                sleep(_REST_S)
                found[f"vision {at}"], seen = clock(ours.vision, ours.pixels(image), keep)
                sleep(_REST_S)
                found[f"prefill {at}"], (logits, cache) = clock(ours.prefill, seen)
                sleep(_REST_S)
                found[f"decode {at}"] = clock(ours.decode, logits, cache, steps)[0] / steps
        for keep in KEEPS if other is not None else ():
            at = f"llama.cpp {keep:g}"
            sleep(_REST_S)
            assert other is not None
            found[f"prefill {at}"], _ = clock(other.prefill, first.length(keep))
            sleep(_REST_S)
            found[f"decode {at}"] = clock(other.decode, steps)[0] / steps
            found[f"vision {at}"] = found[f"vision {next(iter(sides))} {keep:g}"]
        for step in [key for key in found if key.startswith("prefill ")]:
            rest = step.removeprefix("prefill ")
            found[f"TTFT {rest}"] = found[step] + found[f"vision {rest}"]
        print(f"round {number} of {repeat}", file=sys.stderr, flush=True)
        if number:
            rounds.append(found)
    return rounds


def weight_bytes(ours: Ours) -> int:
    """Bytes of weights that one decoded token reads: all but vision, projector and embedding."""
    bundle = ours.pipe.bundle
    names = TensorFile(bundle.file(bundle.manifest.weights.file))
    outside = ("vision_tower", "multi_modal_projector", bundle.manifest.language.embedding)
    read = [name for name in names.names() if not name.startswith(outside)]
    return sum(names.tensor(name).nbytes for name in read)


def table(rounds: list[dict[str, float]], sides: list[str]) -> str:
    """Medians, with least and most, in milliseconds."""
    columns = [f"{side}, keep {keep:g}" for side in sides for keep in KEEPS]
    lines = ["| ms | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for step in ("vision", "prefill", "TTFT", "decode"):
        cells = []
        for side in sides:
            for keep in KEEPS:
                values = [one[f"{step} {side} {keep:g}"] for one in rounds]
                cells.append(f"{median(values):.4g} ({min(values):.4g} to {max(values):.4g})")
        lines.append(f"| {step} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def goals(rounds: list[dict[str, float]]) -> str:
    """The ratios that were set as goals."""
    wanted = [
        ("decode, float32 / int4, keep 1", "decode float32 1", "decode int4 1", ">= 2.5"),
        ("decode, float32 / int4, keep 0.1", "decode float32 0.1", "decode int4 0.1", ">= 2.5"),
        ("TTFT, int4 / llama.cpp, keep 1", "TTFT int4 1", "TTFT llama.cpp 1", "<= 1.2"),
        ("TTFT, int4, keep 1 / keep 0.1", "TTFT int4 1", "TTFT int4 0.1", ">= 2"),
        ("prefill, int4 / llama.cpp, keep 1", "prefill int4 1", "prefill llama.cpp 1", ""),
        ("decode, int4 / llama.cpp, keep 1", "decode int4 1", "decode llama.cpp 1", ""),
        ("prefill, int4 / float32, keep 1", "prefill int4 1", "prefill float32 1", ""),
    ]
    lines = ["| ratio (median of the rounds) | value (lowest to highest) | goal |", "|---|---|---|"]
    for name, over, under, goal in wanted:
        if under not in rounds[0]:
            continue
        values = [one[over] / one[under] for one in rounds]
        cell = f"{median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
        lines.append(f"| {name} | {cell} | {goal} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m vtp.bench.llamacpp", description=__doc__)
    parser.add_argument("int4", type=Path, help="bundle with --weights int4")
    parser.add_argument("float32", type=Path, help="bundle of the same model in float32")
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="CPU threads of all sides"
    )
    parser.add_argument("--repeat", type=int, default=5, help="rounds that are counted")
    parser.add_argument("--steps", type=int, default=16, help="tokens decoded per round")
    parser.add_argument(
        "--work", type=Path, default=Path("out") / "bench", help="folder for the GGUF file"
    )
    parser.add_argument("--alone", action="store_true", help="measure without llama.cpp")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="measure processor time instead of wall time, for a busy machine",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="also write all figures to this JSON file"
    )
    given = parser.parse_args(arguments)
    if given.processor_time and given.threads != 1:
        parser.error("--processor-time needs --threads 1: waiting threads would count")
    if not given.alone:
        for module in ("llama_cpp", "gguf"):
            if find_spec(module) is None:
                raise SystemExit(
                    f"Error: the module {module} is not installed: pip install llama-cpp-python "
                    "gguf, or leave llama.cpp out with --alone"
                )
    given.work.mkdir(parents=True, exist_ok=True)
    load_before = os.getloadavg()[0]
    sides = {
        name: Ours(path, given.threads, given.steps)
        for name, path in (("int4", given.int4), ("float32", given.float32))
    }
    language = sides["int4"].manifest.language
    other = None
    if not given.alone:
        file = write_gguf(given.work / f"{language.width}x{language.layers}-q4_0.gguf", language)
        room = sides["int4"].length(1.0) + given.steps
        other = LlamaCpp(file, given.threads, -(-room // 256) * 256)
    rounds = measure(sides, other, Clock(given.processor_time), given.repeat, given.steps)
    machine = Machine([(512, language.width, language.inner)], given.threads)
    machine.measure()
    sizes = {name: weight_bytes(ours) for name, ours in sides.items()}
    packages = ("onnxruntime",) if other is None else ("onnxruntime", "llama-cpp-python")
    versions = [f"{name} {version(name)}" for name in packages]
    shown = [*sides] if other is None else [*sides, "llama.cpp"]
    print(
        f"{'processor time, ' * given.processor_time}{given.threads} threads, "
        f"{given.repeat} rounds, {given.steps} tokens decoded; "
        f"{', '.join(versions)}; load average before {load_before:.1f}, after "
        f"{os.getloadavg()[0]:.1f}\n\n{table(rounds, shown)}\n\n{goals(rounds)}\n"
    )
    for name, size in sizes.items():
        floor = 1e3 * size / machine.bandwidth
        reached = median(one[f"decode {name} 0.1"] for one in rounds)
        print(
            f"{name}: {size / 1e9:.3f} GB of weights a token, floor {floor:.1f} ms at "
            f"{machine.bandwidth / 1e9:.0f} GB/s, reached {reached:.1f} ms ({floor / reached:.0%})"
        )
    if given.out:
        given.out.write_text(json.dumps({"rounds": rounds, "bytes": sizes}, indent=1) + "\n")


if __name__ == "__main__":
    main()
