"""``vtp calibrate keep``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.bundle.keep import Keep, Keeps, show_keeps
from ..options import (
    engine_options,
    format_option,
    guide_option,
    keeps_options,
    variant_option,
)
from .common import ShownProgress, confidence_option, data_options, opened, percent, tell

if TYPE_CHECKING:
    from ...calibration.data import QuestionFile
    from ...calibration.keep import MeasuredKeep

PICTURE = "keep.svg"


@click.command()
@click.argument(
    "bundles", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@data_options
@confidence_option()
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="P",
    help="Largest loss of accuracy (or of agreement), in percentage points.",
)
@keeps_options("ten from 0.75 to 0.03; averages of them where a plan drops at several places")
@guide_option
@click.option(
    "--write/--dry-run",
    "write",
    default=None,
    help="Make the choice the default of each bundle, or only show it.  [default: write for one "
    "bundle, show for several]",
)
@engine_options
@variant_option
@format_option
def keep(
    bundles: tuple[Path, ...],
    data_file: Path,
    out: Path | None,
    confidence: float,
    max_new_tokens: int | None,
    max_drop: float,
    keeps: tuple[Keeps, ...],
    averages: tuple[Keep, ...],
    guide: Path | None,
    write: bool | None,
    engine: str,
    threads: int | None,
    variant: str | None,
    form: str,
) -> None:
    """Find the smallest keep of the bundle in each DIR that loses at most --max-drop.

    Questions with an answer measure accuracy; questions without one measure agreement with the
    unpruned model. The choice becomes the default in the manifest, which records the old one. A
    picture shows accuracy against time to the first token.

    \b
    Example:
      vtp calibrate keep out/tiny --data questions.jsonl --max-drop 1
      vtp calibrate keep out/tiny --data questions.jsonl --keep 0.2 --keep 0.1 --dry-run
      vtp calibrate keep out/tiny out/divprune --data questions.jsonl --format md
    """
    from ...calibration.answers import Answerer, AnswerOptions
    from ...calibration.default import write_default
    from ...calibration.keep import Wish, calibrate_keep, candidates, choose, pareto
    from ...calibration.output import write_whole
    from ...errors import BoundNotMet
    from ...runtime import Bundle, load

    # All bundles are looked at before the first is asked.
    tried = [(path, candidates(Bundle(path), keeps, averages)) for path in bundles]
    wish, progress = Wish(max_drop=max_drop / 100, confidence=confidence), ShownProgress()
    options = AnswerOptions(
        max_new_tokens=max_new_tokens, guide=guide, threads=threads, variant=variant
    )
    found: list[list[MeasuredKeep]] = []
    with opened(data_file, out) as (data, folder, journal):
        for path, (points, left_out) in tried:
            if left_out is not None:
                print(f"Note: {path}: smaller keeps are not tried: {left_out}", file=sys.stderr)
            progress.step(f"asking {path} {len(data.questions)} questions at {len(points)} keeps")
            pipeline = load(path, engine, threads=threads, variant=variant, guide=guide)
            asker = Answerer(pipeline, data, journal, options, progress)
            found.append(calibrate_keep(asker, points, wish))
        rows = [row for of_one in found for row in of_one]
        chosen: dict[int, MeasuredKeep] = {}
        failed: list[BoundNotMet] = []
        for of_one in found:
            try:
                row = choose(of_one, wish)
                chosen[id(row)] = row
            except BoundNotMet as error:
                failed.append(error)
        best = pareto(rows)
        picture = folder / PICTURE
        write_whole(picture, _picture(rows, best, chosen, data, wish.max_drop))
        shown = [_row(row, first, id(row) in chosen) for row, first in zip(rows, best, strict=True)]
        tell({f"{len(data.questions)} questions, {confidence:g} confidence": shown}, form)
        print(f"[picture: {picture}]", file=sys.stderr)
        for row in chosen.values():
            _note(row, confidence)
        if write or (write is None and len(bundles) == 1):
            for row in chosen.values():
                why = (
                    f"vtp calibrate keep: at most {max_drop:g} points lost on {data_file.name} "
                    f"(sha256 {data.sha256[:12]}, {len(data.questions)} questions, "
                    f"confidence {confidence:g})"
                )
                written = write_default(row.bundle, row.keep, why)
                verb = "default keep" if written.changed else "default keep already"
                print(
                    f"[{row.bundle.path}: {verb} {show_keeps(written.new)} "
                    f"(was {show_keeps(written.old)}); manifest.json sha256 {written.sha256}]",
                    file=sys.stderr,
                )
                for text in written.beyond:
                    progress.warn(text)
        for other in failed[:-1]:
            progress.warn(str(other))
        if failed:
            raise failed[-1]


def _note(row: MeasuredKeep, confidence: float) -> None:
    seen = row.measured
    print(
        f"[{row.bundle.path}: keep {show_keeps(row.keep)} loses {100 * seen.drop:.2f} points on "
        "this data"
        + (f", at most {100 * row.bound:.2f} on similar questions" if confidence else "")
        + f"; first token after {seen.ttft_ms:.1f} ms]",
        file=sys.stderr,
    )


def _row(row: MeasuredKeep, best: bool, chosen: bool) -> dict[str, Any]:
    seen = row.measured
    return {
        "bundle": str(row.bundle.path),
        "method": row.bundle.manifest.plan.name,
        "keep": show_keeps(row.keep),
        "tokens": round(seen.average_tokens, 1),
        "accuracy %": percent(seen.accuracy, 1),
        "agreement %": percent(seen.agreement, 1),
        "token agreement %": percent(seen.token_agreement, 1),
        "drop": percent(seen.drop),
        "drop at most": percent(row.bound),
        "TTFT ms": round(seen.ttft_ms, 2),
        "Pareto": "yes" if best else "",
        "within": ("chosen" if chosen else "yes") if row.within else "no",
    }


def _picture(
    rows: list[MeasuredKeep],
    best: list[bool],
    chosen: dict[int, MeasuredKeep],
    data: QuestionFile,
    drop: float,
) -> str:
    from ...calibration.picture import Mark, draw

    answered = sum(bool(question.answers) for question in data.questions)
    measure = "agreement with the unpruned model"
    if answered:
        both = answered < len(data.questions)
        measure = "accuracy" + (", and agreement where there is no answer" if both else "")
    unpruned = rows[0].measured.score
    return draw(
        [
            Mark(
                series=f"{row.bundle.path.name} ({row.bundle.manifest.plan.name})",
                label=show_keeps(row.keep),
                ms=row.measured.ttft_ms,
                percent=100 * row.measured.score,
                best=first,
                chosen=id(row) in chosen,
            )
            for row, first in zip(rows, best, strict=True)
        ],
        measure,
        100 * (unpruned - drop),
    )
