"""Accuracy of exported bundles on held-out scenes, through the runtime.

`python -m vtp.samples.evaluate fastervlm=out/tiny random=out/tiny-random uniform=out/tiny-uniform`
asks every bundle the same questions at every average (share of the image tokens that a language
layer reads) and prints two Markdown tables (in percent) and one line of JSON. Answers must match
exactly, except for spaces and case. A dash marks an average that the bundle's plan cannot reach.

`--guide BUNDLE --threshold 2 --threshold 0.95 --threshold 0.5` asks bundles that need a guide, once
at each exit threshold, and prints how often the guide answered alone.
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
from vtp.errors import AverageOutOfReach, KeepOutOfRange

from .scenes import KINDS, SHORT_KINDS, Sample, evaluation_set, same_answer

AVERAGES = (1.0, 0.5, 0.25, 0.1, 0.05)
MAX_NEW_TOKENS = 40
"""The longest answer, to a `describe` question, has 36 tokens and the end."""


def accuracy(
    pipe: vtp.Pipeline,
    samples: Sequence[Sample],
    average: float | None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    exit_threshold: float | None = None,
) -> dict[str, float]:
    """Share of right answers by kind, under "average" the mean over `SHORT_KINDS`.

    Under "tokens" the image tokens that a layer read, under "ttft_ms" the median time to the first
    token, under "answer_ms" the mean time to the whole answer, under "exits" the share that a guide
    answered.
    """
    right: dict[str, list[bool]] = {}
    waits: list[float] = []
    tokens: list[float] = []
    exits = 0
    began = time.perf_counter()
    for sample in samples:
        result = pipe.generate(
            sample.image,
            sample.question,
            average=average,
            max_new_tokens=max_new_tokens,
            exit_threshold=exit_threshold,
        )
        waits.append(result.timings.ttft_ms)
        tokens.append(result.average_tokens)
        exits += result.guide is not None and result.guide.exited
        right.setdefault(sample.kind, []).append(same_answer(result.text, sample.answer))
    seconds = time.perf_counter() - began
    by_kind = {kind: sum(hits) / len(hits) for kind, hits in right.items()}
    short = [by_kind[kind] for kind in SHORT_KINDS if kind in by_kind]
    return {
        "average": sum(short) / len(short) if short else float("nan"),
        "tokens": sum(tokens) / len(tokens),
        "ttft_ms": median(waits),
        "answer_ms": seconds * 1e3 / len(samples),
        "exits": exits / len(samples),
        **by_kind,
    }


def tables(figures: dict[str, dict[float, dict[str, float] | None]]) -> str:
    """Two markdown tables: bundles by average, then every kind of question.

    `figures` is bundle name -> average -> kind -> share, None where the plan cannot reach it.
    """
    averages = list(next(iter(figures.values())))
    lines = [f"| method | {' | '.join(f'{100 * average:g} %' for average in averages)} |"]
    lines.append("|---" * (len(averages) + 1) + "|")
    for name, row in figures.items():
        found = [row[average] for average in averages]
        cells = ["-" if cell is None else f"{100 * cell['average']:.1f}" for cell in found]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    head = ["average", "method", "image tokens", "first token after, ms", "mean", *KINDS]
    lines += ["", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for average in averages:
        for name, row in figures.items():
            cell = row[average]
            if cell is not None:
                shares = [f"{100 * cell[kind]:.1f}" for kind in ("average", *KINDS) if kind in cell]
                shown = [f"{average:g}", name, f"{cell['tokens']:.1f}", f"{cell['ttft_ms']:.1f}"]
                lines.append("| " + " | ".join([*shown, *shares]) + " |")
    return "\n".join(lines)


def guided_table(figures: dict[str, dict[float, dict[str, float]]]) -> str:
    """Markdown: accuracy, share of early exits and time at every threshold."""
    lines = [
        "| bundle | exit threshold | accuracy, % | early exits, % | time to the whole answer, ms |",
        "|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        for threshold, cell in row.items():
            lines.append(
                f"| {name} | {threshold:g} | {100 * cell['average']:.1f} "
                f"| {100 * cell['exits']:.1f} | {cell['answer_ms']:.1f} |"
            )
    return "\n".join(lines)


def _named(argument: str) -> tuple[str, Path]:
    name, equals, folder = argument.partition("=")
    return (name, Path(folder)) if equals else (Path(argument).name, Path(argument))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m vtp.samples.evaluate", description=__doc__)
    parser.add_argument("bundles", nargs="+", type=_named, metavar="[NAME=]BUNDLE")
    parser.add_argument(
        "--count", type=int, default=300, help="number of questions; kinds alternate"
    )
    parser.add_argument(
        "--average",
        type=float,
        action="append",
        metavar="A",
        help="share of the image tokens; repeat it for several (default: 1, 0.5, 0.25, 0.1, 0.05)",
    )
    parser.add_argument("--guide", type=Path, metavar="BUNDLE", help="guide of all bundles")
    parser.add_argument(
        "--threshold",
        type=float,
        action="append",
        metavar="X",
        help="exit threshold, with --guide; repeat it for several",
    )
    parser.add_argument("--seed", type=int, default=20_000, help="seed of the held-out scenes")
    options = parser.parse_args(arguments)
    samples = list(evaluation_set(options.count, options.seed))
    guided = options.threshold is not None
    points = options.threshold if guided else options.average or list(AVERAGES)
    figures: dict[str, dict[float, dict[str, float] | None]] = {}
    for name, folder in options.bundles:
        pipe = vtp.load(folder, guide=options.guide)
        figures[name] = {}
        for point in points:
            cell: dict[str, float] | None = None
            began = time.perf_counter()
            try:
                threshold = point if guided else None
                cell = accuracy(pipe, samples, None if guided else point, exit_threshold=threshold)
            except (AverageOutOfReach, KeepOutOfRange) as error:
                print(f"{name} at {point:g}: {error}", file=sys.stderr, flush=True)
            figures[name][point] = cell
            if cell is not None:
                print(
                    f"{name} at {point:g}: {100 * cell['average']:.1f} %"
                    f" in {time.perf_counter() - began:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
    if guided:
        reached = {
            name: {at: cell for at, cell in row.items() if cell is not None}
            for name, row in figures.items()
        }
        print(guided_table(reached))
    else:
        print(tables(figures))
    print()
    print(json.dumps({"count": len(samples), "seed": options.seed, "accuracy": figures}))


if __name__ == "__main__":
    main()
