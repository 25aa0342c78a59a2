"""``vtp profile``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ..runtime.bundle.keep import Keep, Keeps
from .options import (
    bundle_argument,
    engine_options,
    format_option,
    guide_option,
    keeps_options,
    media_options,
    variant_option,
)
from .tables import show


@click.command()
@bundle_argument
@keeps_options(
    "1.0, 0.5, 0.25, 0.1 and 0.05; averages of them where a plan drops at several places"
)
@media_options("  [default: the bundle's sample]")
@click.option("--prompt", metavar="T", help="The question.  [default: the bundle's sample]")
@click.option(
    "--prompt-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Use a question of N text tokens, including the chat template; replaces --prompt.",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="Length of every answer; end tokens do not end it.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="R",
    help="Rounds; each asks every keep once. Fewer than 3 rounds give no confidence intervals.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Warm-up rounds.",
)
@guide_option
@click.option(
    "--operators/--no-operators",
    default=True,
    show_default=True,
    help="After the timed rounds, load the bundle again with the profiler of the engine.",
)
@click.option(
    "--accuracy",
    type=click.Path(path_type=Path),
    metavar="F.json",
    help='File with the accuracy at each keep, to show it too: {"1.0": 0.98, ...}, or the output '
    "of vtp.samples.evaluate.",
)
@click.option(
    "--trace",
    "trace_file",
    type=click.Path(path_type=Path),
    metavar="F.json",
    help="Write all requests in Chrome's trace event format, for ui.perfetto.dev.",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path),
    metavar="F.html",
    help="Write one page with figures; it needs no network.",
)
@engine_options
@variant_option
@format_option
def profile(
    bundle: Path,
    keeps: tuple[Keeps, ...],
    averages: tuple[Keep, ...],
    images: tuple[Path, ...],
    videos: tuple[Path, ...],
    prompt: str | None,
    prompt_tokens: int | None,
    new_tokens: int,
    repeat: int,
    warmup: int,
    guide: Path | None,
    operators: bool,
    accuracy: Path | None,
    trace_file: Path | None,
    html_file: Path | None,
    engine: str,
    threads: int | None,
    variant: str | None,
    form: str,
) -> None:
    """Measure where the time of the bundle in DIR goes, and how much pruning saves.

    Each round asks every keep once, so that a drifting machine affects all of them equally. The
    result is compared with the ceiling: what pruning could save here if dropped tokens were free.
    docs/profiling.md explains how everything is measured.

    \b
    Example:
      vtp profile out/tiny
      vtp profile out/tiny --keep 0.25 --keep 0.1 --repeat 20 --html profile.html
      vtp profile out/tiny --format json --trace trace.json > profile.json
    """
    from ..runtime import Video, load
    from ..runtime.profile import document, make_workload, trace
    from ..runtime.profile import profile as measure
    from ..runtime.profile.accuracy import read_accuracy
    from ..runtime.profile.output import check_target, write_whole
    from ..runtime.profile.page import page
    from ..runtime.profile.rows import sections, short_sections

    if prompt is not None and prompt_tokens is not None:
        raise click.UsageError("give --prompt or --prompt-tokens, not both")
    for option, target in (("--trace", trace_file), ("--html", html_file)):
        if target is not None:
            check_target(option, target)
    pipeline = load(bundle, engine, threads=threads, variant=variant, guide=guide)
    workload = make_workload(
        pipeline,
        keeps=keeps if keeps or averages else None,
        averages=averages,
        images=[*images, *(Video(path) for path in videos)],
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
    )
    labels = [point.label for point in workload.points]
    known = None if accuracy is None else read_accuracy(accuracy, labels)
    measured = measure(
        pipeline,
        workload,
        repeat=repeat,
        warmup=warmup,
        operators=operators,
        progress=lambda step: print(step, file=sys.stderr),
    )
    found = document(measured, known)
    if trace_file is not None:
        write_whole(trace_file, json.dumps(trace(measured), indent=None) + "\n")
    if html_file is not None:
        write_whole(html_file, page(found))
    if form == "json":
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        show(short_sections(found) if form == "table" else sections(found), form)
