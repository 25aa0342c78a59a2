"""The cost of cache capacity in each target: ``python -m vtp.bench.cache_cost BUNDLE``.

Measures a prompt of 100 tokens and one decoded token, with caches of growing capacity. The cost of
target ``ort`` depends on the filled rows, that of target ``onnx`` (in ONNX Runtime) on the whole
capacity. Prints medians in milliseconds, with the minimum in parentheses.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from ..runtime import Pipeline, load
from ..runtime.model.splice import splice

PROMPT = 100
CAPACITIES = (128, 512, 2048)


def _time(run: Callable[[], object], repeat: int) -> str:
    run()
    times = []
    for _ in range(repeat):
        started = perf_counter()
        run()
        times.append((perf_counter() - started) * 1e3)
    return f"{median(times):.2f} ({min(times):.2f})"


def measure(pipeline: Pipeline, capacity: int, repeat: int) -> tuple[str, str]:
    """Prefill of ``PROMPT`` tokens, and one decode step after it."""
    decoder = pipeline.decoder
    cache = decoder.cache(capacity)
    prompt = splice(decoder, [5] * PROMPT, [])

    def prefill() -> None:
        cache.stages[0].length = 0
        decoder.prefill(prompt, cache)

    loop = decoder.decode(cache)

    def step() -> None:
        cache.stages[0].length = PROMPT
        loop.step(5)

    return _time(prefill, repeat), _time(step, repeat)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=50)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    print("| capacity | target | prefill of 100 tokens, ms | decode, ms |\n|---|---|---|---|")
    pipelines = {
        target: load(options.bundle, "cpu", target=target, threads=options.threads)
        for target in ("ort", "onnx")
    }
    for capacity in CAPACITIES:
        for target, pipeline in pipelines.items():
            prefill, decode = measure(pipeline, capacity, options.repeat)
            print(f"| {capacity} | {target} | {prefill} | {decode} |")


if __name__ == "__main__":
    main()
