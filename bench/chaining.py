"""What cutting the decoder into stages costs: ``python -m vtp.bench.chaining ONE_STAGE STAGES``.

Both bundles hold the same model: the first with method ``none``, the second with a method that
drops tokens inside the decoder. Nothing is dropped (keep 1.0), so both read the same tokens through
the same layers. Prefill and decode of both are timed in turn in one process. Prints medians, and
median and quartiles of the ratio of staged to whole.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import numpy as np

from ..runtime.chat.pipeline import Pipeline, load
from ..runtime.model.arrange import Arranged
from ..runtime.model.splice import splice
from ..runtime.model.token_placement import SplicedPrompt


class _Side:
    """One bundle, its prompt spliced."""

    def __init__(self, bundle: Path, threads: int) -> None:
        self.pipe: Pipeline = load(bundle, "cpu", threads=threads)
        manifest = self.pipe.bundle.manifest
        plan, language = manifest.plan, manifest.language
        layout = manifest.prompt
        tokens = self.pipe.text.encode(layout.render_turn(manifest.golden.prompt, 1, first=True))
        embeds = self.pipe.engine.buffer((1, plan.tokens, language.row_width(0)), "float32")
        random = np.random.default_rng(0)
        embeds.write(random.standard_normal(embeds.shape, dtype=np.float32) * 0.02)
        numbers = np.arange(plan.tokens)
        image = Arranged(rows=numbers, entries=numbers, offsets=numbers[None], span=plan.tokens)
        ids = [layout.image_token_id]
        self.prompt: SplicedPrompt = splice(self.pipe.decoder, tokens, ids, [embeds], [image])

    def time(self, steps: int) -> tuple[float, float]:
        """Prefill, and decode per token, milliseconds."""
        decoder = self.pipe.decoder
        cache = decoder.cache(self.prompt.placement.tokens + steps)
        started = perf_counter()
        logits = decoder.prefill(self.prompt, cache).logits
        filled = perf_counter()
        loop = decoder.decode(cache)
        for _ in range(steps):
            logits = loop.step(int(logits.argmax()))
        return (filled - started) * 1e3, (perf_counter() - filled) * 1e3 / steps


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("whole", type=Path)
    parser.add_argument("staged", type=Path)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    sides = [_Side(path, options.threads) for path in (options.whole, options.staged)]
    for side in sides:
        side.time(2)
    times: list[list[tuple[float, float]]] = [[], []]
    for number in range(options.repeat):
        order = (0, 1) if number % 2 else (1, 0)
        for at in order:
            times[at].append(sides[at].time(options.steps))
    stages = len(sides[1].pipe.decoder.stages)
    print(f"| | one stage, ms | {stages} stages, ms | ratio (quartiles) |\n|---|---|---|---|")
    results = {}
    for place, name in enumerate(("prefill", "decode")):
        whole, staged = ([pair[place] for pair in side] for side in times)
        ratios = [b / a for a, b in zip(whole, staged, strict=True)]
        low, _, high = quantiles(ratios, n=4)
        results[name] = {"whole": median(whole), "staged": median(staged), "ratio": median(ratios)}
        print(
            f"| {name} | {median(whole):.2f} | {median(staged):.2f} "
            f"| {median(ratios):.3f} ({low:.3f} to {high:.3f}) |"
        )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
