"""``vtp calibrate exit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import bundle_argument, engine_options, format_option
from .common import ShownProgress, confidence_option, data_options, opened, percent, tell

if TYPE_CHECKING:
    from ...calibration.early_exit import Answers, Threshold

_SHOWN = 8


@click.command("exit")
@bundle_argument
@click.option(
    "--guide",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Bundle of the smaller model ('--method guide').",
)
@data_options
@confidence_option()
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Largest loss compared with the large model alone, in percentage points.  [default: 1]",
)
@click.option(
    "--accuracy",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Lowest accuracy (or agreement with the large model), in percent; replaces --max-drop.",
)
@click.option(
    "--exits",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Lowest share of questions that the guide answers alone, in percent; replaces --max-drop.",
)
@engine_options
@format_option
def exit_(
    bundle: Path,
    guide: Path,
    data_file: Path,
    out: Path | None,
    confidence: float,
    max_new_tokens: int | None,
    max_drop: float | None,
    accuracy: float | None,
    exits: float | None,
    engine: str,
    threads: int | None,
    form: str,
) -> None:
    """Find the exit threshold for the bundle in DIR and its guide (SGL).

    Both models answer every question once. The result is the lowest threshold that meets --max-drop
    or --accuracy, or the highest that meets --exits. Use it with vtp run --exit-threshold.

    \b
    Example:
      vtp calibrate exit out/large --guide out/small --data questions.jsonl --max-drop 1
      vtp calibrate exit out/large --guide out/small --data questions.jsonl --exits 60
    """
    from ...calibration.answers import Answerer, AnswerOptions
    from ...calibration.early_exit import ExitWish, ask_both, choose_threshold
    from ...runtime import load

    wishes = {"--max-drop": max_drop, "--accuracy": accuracy, "--exits": exits}
    named = [name for name, value in wishes.items() if value is not None]
    if len(named) > 1:
        raise click.UsageError(f"give only one of {', '.join(named)}")
    wish = ExitWish(
        max_drop=0.01 if not named else None if max_drop is None else max_drop / 100,
        accuracy=None if accuracy is None else accuracy / 100,
        exits=None if exits is None else exits / 100,
        confidence=confidence,
    )
    progress = ShownProgress()
    with opened(data_file, out) as (data, _, journal):
        pipeline = load(bundle, engine, threads=threads, guide=guide)
        options = AnswerOptions(
            max_new_tokens=max_new_tokens, guide=guide, check_guide=True, threads=threads
        )
        progress.step(f"asking {bundle} and its guide {len(data.questions)} questions")
        found = ask_both(Answerer(pipeline, data, journal, options, progress))
        try:
            chosen = choose_threshold(found, wish)
        except Exception:
            _show(found, None, wish.confidence, form)
            raise
        _show(found, chosen, wish.confidence, form)
        print(
            f"[use it with: vtp run {bundle} --guide {guide} --exit-threshold {chosen.threshold}]",
            file=sys.stderr,
        )


def _show(found: Answers, chosen: Threshold | None, confidence: float, form: str) -> None:
    """The chosen threshold among some others, evenly spread over the shares of exits."""
    every = found.thresholds()
    places = {round(i * (len(every) - 1) / _SHOWN) for i in range(_SHOWN + 1)}
    shown = {every[place] for place in places} | ({chosen.threshold} if chosen else set())
    rows = [
        _row(found.at(one, confidence), chosen is not None and one == chosen.threshold)
        for one in sorted(shown, reverse=True)
    ]
    tell({f"{len(found.large)} questions, {confidence:g} confidence": rows}, form)


def _row(at: Threshold, chosen: bool) -> dict[str, Any]:
    return {
        "threshold": str(at.threshold),
        "exits %": percent(at.exits, 1),
        "accuracy %": percent(at.score),
        "at least": percent(at.score_bound),
        "drop": percent(at.drop),
        "drop at most": percent(at.drop_bound),
        "choice": "chosen" if chosen else "",
    }
