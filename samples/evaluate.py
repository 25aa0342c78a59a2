"""Accuracy of exported bundles on held-out scenes, through the runtime.

`python -m vtp.samples.evaluate fastervlm=out/tiny random=out/tiny-random uniform=out/tiny-uniform`
asks every bundle the same questions at every keep and prints two markdown tables (in percent) and
one line of JSON. Answers must match exactly, spaces and case aside.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import vtp

from .scenes import KINDS, SHORT_KINDS, Sample, evaluation_set, same_answer

KEEPS = "1.0,0.5,0.25,0.1,0.05"
MAX_NEW_TOKENS = 40
"""The longest answer, to a `describe` question, has 36 tokens and the end."""


def accuracy(
    pipe: vtp.Pipeline, samples: Sequence[Sample], keep: float, max_new_tokens: int = MAX_NEW_TOKENS
) -> dict[str, float]:
    """Share of right answers by kind, under "average" the mean over `SHORT_KINDS`.

    Under "tokens" and "ttft_ms" the image tokens kept and the median time to the first token.
    """
    right: dict[str, list[bool]] = {}
    waits: list[float] = []
    tokens = 0
    for sample in samples:
        result = pipe.generate(
            sample.image, sample.question, keep=keep, max_new_tokens=max_new_tokens
        )
        waits.append(result.timings.ttft_ms)
        tokens = result.image_tokens
        right.setdefault(sample.kind, []).append(same_answer(result.text, sample.answer))
    by_kind = {kind: sum(hits) / len(hits) for kind, hits in right.items()}
    short = [by_kind[kind] for kind in SHORT_KINDS if kind in by_kind]
    measured = {"tokens": tokens, "ttft_ms": median(waits), **by_kind}
    return {"average": sum(short) / len(short), **measured} if short else measured


def tables(figures: dict[str, dict[float, dict[str, float]]]) -> str:
    """Two markdown tables: averages by keep and bundle with time, then every kind of question.

    `figures` is bundle name -> keep -> kind -> share.
    """
    names = list(figures)
    keeps = list(next(iter(figures.values())))
    lines = [f"| keep | image tokens | {' | '.join(names)} | first token after, ms |"]
    lines.append("|---" * (len(names) + 3) + "|")
    for keep in keeps:
        cells = [f"{100 * figures[name][keep]['average']:.1f}" for name in names]
        first = figures[names[0]][keep]
        cells = [f"{keep:g}", f"{first['tokens']:g}", *cells, f"{first['ttft_ms']:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    kinds = [k for k in ("average", *KINDS) if k in figures[names[0]][keeps[0]]]
    lines += ["", "| keep | bundle | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 2) + "|"]
    for keep in keeps:
        for name in names:
            cells = [f"{100 * figures[name][keep][kind]:.1f}" for kind in kinds]
            lines.append(f"| {keep:g} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _named(argument: str) -> tuple[str, Path]:
    name, equals, folder = argument.partition("=")
    return (name, Path(folder)) if equals else (Path(argument).name, Path(argument))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m vtp.samples.evaluate", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=_named, metavar="[NAME=]BUNDLE")
    parser.add_argument("--count", type=int, default=300, help="questions, all kinds in turn")
    parser.add_argument("--keeps", default=KEEPS, help="kept ratios, comma between them")
    parser.add_argument("--seed", type=int, default=20_000, help="seed of the held-out scenes")
    options = parser.parse_args(arguments)
    keeps = [float(keep) for keep in options.keeps.split(",")]
    samples = list(evaluation_set(options.count, options.seed))
    figures: dict[str, dict[float, dict[str, float]]] = {}
    for name, folder in options.bundles:
        pipe = vtp.load(folder)
        figures[name] = {}
        for keep in keeps:
            began = time.perf_counter()
            figures[name][keep] = accuracy(pipe, samples, keep)
            print(
                f"{name} keep {keep:g}: {100 * figures[name][keep]['average']:.1f} %"
                f" in {time.perf_counter() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    print(tables(figures))
    print()
    print(json.dumps({"count": len(samples), "seed": options.seed, "accuracy": figures}))


if __name__ == "__main__":
    main()
