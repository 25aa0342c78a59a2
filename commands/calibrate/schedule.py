"""``vtp calibrate schedule``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...packages import require
from ...runtime.bundle.keep import Keep, keep_ratio
from ..options import KeepType, engine_options, format_option
from .common import ShownProgress, confidence_option, data_options, opened, percent, tell

if TYPE_CHECKING:
    from ...calibration.schedule import Schedule

PLAN = "plan.json"
WORK = "bundle"


@click.command()
@click.argument("model")
@data_options
@confidence_option()
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    metavar="P",
    help="Greedy search (G-Search): largest loss of accuracy (or of agreement) on this data, in "
    "percentage points.  [default: 1, without --average]",
)
@click.option(
    "--average",
    type=KeepType(),
    metavar="A",
    help="Sigmoid with a budget (P-Sigmoid) instead of the greedy search: image tokens that a "
    "language layer may read on average.",
)
@click.option(
    "--layers",
    metavar="L,L,...",
    help="If MODEL is not a bundle: layers before which tokens can be dropped, separated by "
    "commas.  [default: every layer, or eight evenly spread layers]",
)
@click.option(
    "--score",
    metavar="S",
    help="If MODEL is not a bundle: score at these layers ('vtp list scores').  [default: "
    "attention]",
)
@click.option(
    "--method",
    metavar="NAME",
    help="If MODEL is not a bundle: method on the vision side, whose keep is searched too.",
)
@engine_options
@format_option
def schedule(
    model: str,
    data_file: Path,
    out: Path | None,
    confidence: float,
    max_new_tokens: int | None,
    max_drop: float | None,
    average: Keep | None,
    layers: str | None,
    score: str | None,
    method: str | None,
    engine: str,
    threads: int | None,
    form: str,
) -> None:
    """Find how many image tokens each layer of MODEL needs, and write a plan for vtp export.

    MODEL is either a model as for vtp export, which is exported with a drop at every layer that is
    considered, or a bundle that was exported like this (with '--stage LAYER:1.0:SCORE' for each).
    The search goes from shallow to deep layers for the fewest tokens, or with --average for the
    best sigmoid. A uniform schedule with at least as many tokens is measured for comparison.

    \b
    Example:
      vtp calibrate schedule tiny --data questions.jsonl --max-drop 1
      vtp calibrate schedule tiny --data questions.jsonl --average 0.4 --method fastervlm
    """
    from ...calibration.answers import Answerer, AnswerOptions
    from ...calibration.output import write_whole
    from ...calibration.schedule import Search, greedy, sigmoid
    from ...calibration.work_bundle import export_for_search, is_bundle
    from ...export.plan.plan_file import plan_file
    from ...runtime import load

    if average is not None and max_drop is not None:
        raise click.UsageError("give --average (a budget) or --max-drop (a bound), not both")
    given = is_bundle(Path(model))
    of_model = {"--layers": layers, "--score": score, "--method": method}
    if given and (beside := [name for name, value in of_model.items() if value is not None]):
        raise click.UsageError(
            f"{', '.join(beside)}: not accepted with a bundle ({model}), which already has a plan"
        )
    places = _layers(layers)
    if not given:
        require("export", "vtp calibrate schedule of a model", "torch", "transformers", "onnx_ir")
    progress = ShownProgress()
    with opened(data_file, out) as (data, folder, journal):
        bundle = Path(model)
        if not given:
            bundle = export_for_search(
                model, folder / WORK, method, places, score or "attention", progress
            )
        pipeline = load(bundle, engine, threads=threads)
        options = AnswerOptions(max_new_tokens=max_new_tokens, threads=threads)
        search = Search(Answerer(pipeline, data, journal, options, progress), progress.step)
        tokens = search.plan.tokens
        if average is None:
            limit = 1.0 if max_drop is None else max_drop
            found, asked = greedy(search, limit / 100), f"greedy, --max-drop {limit:g}"
        else:
            found = sigmoid(search, keep_ratio(average, tokens) * tokens)
            asked = f"sigmoid, --average {average}"
        rows = [search.unpruned(), found, search.uniform(found.average)]
        shown = [_row(row, confidence) for row in rows]
        tell({f"{len(data.questions)} questions, {confidence:g} confidence": shown}, form)
        plan = plan_file(
            search.plan,
            search.ratios(found.counts),
            {
                "by": f"vtp calibrate schedule, {asked}",
                "data": f"{data_file.name}, sha256 {data.sha256}, {len(data.questions)} questions",
                "counts": list(found.counts),
                "of": tokens,
                "average": found.average,
                "drop": found.measured.drop,
                "drop_at_most": found.measured.bound(confidence),
                "confidence": confidence,
            },
        )
        target = folder / PLAN
        write_whole(target, plan.to_json())
        print(f"[plan: {target}; use it with: vtp export MODEL --plan {target}]", file=sys.stderr)


def _layers(text: str | None) -> tuple[int, ...]:
    parts = [] if text is None else text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise click.UsageError(f"--layers {text!r} is not of the form 1,2,3")
    return tuple(int(part) for part in parts)


def _row(schedule: Schedule, confidence: float) -> dict[str, Any]:
    seen = schedule.measured
    return {
        "schedule": schedule.form,
        "tokens after each drop": ", ".join(map(str, schedule.counts)),
        "average": round(schedule.average, 1),
        "accuracy %": percent(seen.accuracy, 1),
        "agreement %": percent(seen.agreement, 1),
        "token agreement %": percent(seen.token_agreement, 1),
        "drop": percent(seen.drop),
        "drop at most": percent(seen.bound(confidence)) if schedule.form != "unpruned" else 0.0,
        "TTFT ms": round(seen.ttft_ms, 2),
        "steepness": schedule.steepness,
    }
