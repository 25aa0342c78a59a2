"""``vtp calibrate quantize``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...packages import require
from ...runtime.bundle.keep import Keeps, show_keeps
from ..options import KEEP_HELP, bundle_argument, format_option, keep_option
from .common import ShownProgress, confidence_option, opened, percent, question_options, tell

if TYPE_CHECKING:
    from ...calibration.measure import Measured
    from ...calibration.quantize import QuantizedBundle


_PRECISIONS = ("int8", "fp8", "int4-awq")
_T = TypeVar("_T")


@click.command()
@bundle_argument
@question_options
@click.option(
    "--out",
    "target",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the quantized bundle; the original bundle is not changed.  [required]",
)
@click.option(
    "--journal",
    "journal_folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the journal, from which an interrupted calibration resumes.  [default: "
    "NAME-calibration next to the data file]",
)
@confidence_option(
    "Confidence of the bound 'drop at most' for other questions of the same kind. It does not "
    "influence which parts are quantized: the measured drop does."
)
@click.option(
    "--precision",
    type=click.Choice(_PRECISIONS),
    help="int8, fp8: weights and activations of all matrix products (fp8: only TensorRT, on cards "
    "with compute capability 8.9 or higher). int4-awq: only the weights of the decoder; those that "
    "meet large activations are rounded with more care.  [default: int8]",
)
@click.option("--force", is_flag=True, help="Replace the output bundle if it exists.")
@keep_option(
    f"Keep at which activations are recorded, which should be the deployed one: {KEEP_HELP}.  "
    "[default: the bundle's]"
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="P",
    help="Largest loss on the data, in percentage points of accuracy (or of agreement with the "
    "original bundle). The parts that lose most are left unquantized until it is met.",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Number of questions, from the first on, whose activations are recorded.",
)
@click.option(
    "--ranges",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="How the range of an activation is computed from the recorded values.",
)
@click.option(
    "--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.  [default: all cores]"
)
@click.option("--to", "old_target", hidden=True, type=click.Path(path_type=Path), help="Now --out.")
@click.option(
    "--weights",
    "old_precision",
    hidden=True,
    type=click.Choice(_PRECISIONS),
    help="Now --precision.",
)
@format_option
def quantize(
    bundle: Path,
    data_file: Path,
    target: Path | None,
    journal_folder: Path | None,
    confidence: float,
    max_new_tokens: int | None,
    precision: str | None,
    force: bool,
    keep: Keeps | None,
    max_drop: float,
    requests: int,
    ranges: str,
    threads: int | None,
    old_target: Path | None,
    old_precision: str | None,
    form: str,
) -> None:
    """Quantize the bundle in DIR, using the activations of the pruned model.

    The matrix products are quantized. Questions in --data are asked first to record activations,
    then to measure the loss. Norms, softmax, scores, the head and residual additions stay as they
    are.

    \b
    Example:
      vtp calibrate quantize out/tiny --data questions.jsonl --out out/tiny-int8
      vtp calibrate quantize out/tiny --data questions.jsonl --out out/tiny-fp8 --precision fp8
    """
    if old_target is not None and target is not None:
        raise click.UsageError(
            "--to is now --out, and --out, the folder of the journal, is now --journal"
        )
    target = _renamed("--to", old_target, "--out", target)
    if target is None:
        raise click.UsageError("Missing option '--out'.")
    precision = _renamed("--weights", old_precision, "--precision", precision) or _PRECISIONS[0]
    require("cpu", "vtp calibrate quantize", "onnxruntime")
    require("export", "vtp calibrate quantize", "onnx", "onnx_ir", "ml_dtypes")
    from ...calibration.answers import AnswerOptions
    from ...calibration.quantize import QuantizeOptions, Quantizer
    from ...export.output import replace_folder
    from ...runtime import Bundle

    source = Bundle(bundle)
    options = QuantizeOptions(
        form=precision,
        keep=source.manifest.plan.keeps(keep),
        ranges=ranges,
        requests=requests,
        max_drop=max_drop / 100,
        threads=threads,
    )
    asking = AnswerOptions(max_new_tokens=max_new_tokens)
    with (
        replace_folder(target, force) as work,
        opened(data_file, journal_folder) as (data, _, journal),
    ):
        quantizer = Quantizer(source, data, journal, options, asking, ShownProgress())
        done = quantizer.run(work)
    tell({"accuracy": _rows(done, precision, confidence), "sensitivity": _parts(done)}, form)
    seen = Bundle(target).manifest
    print(
        f"[{target}: {precision} at keep {show_keeps(options.keep)}, "
        f"{source.manifest.weights.bytes / 1e6:.1f} -> {seen.weights.bytes / 1e6:.1f} MB of "
        f"weights; loses {100 * done.chosen.measured.drop:.2f} points on this data]",
        file=sys.stderr,
    )


def _renamed(old: str, of_old: _T | None, new: str, of_new: _T | None) -> _T | None:
    """The value of an option, under the name that it had before too."""
    if of_old is None:
        return of_new
    if of_new is not None:
        raise click.UsageError(f"{old} is now {new}: give {new} only")
    print(f"Note: {old} of vtp calibrate quantize is now {new}", file=sys.stderr)
    return of_old


def _rows(done: QuantizedBundle, form: str, confidence: float) -> list[dict[str, Any]]:
    rows: list[tuple[str, Measured, tuple[str, ...]]] = [("original", done.before, ())]
    rows += [(form, trial.measured, trial.left) for trial in done.trials]
    return [
        {
            "bundle": name,
            "parts not quantized": len(left),
            "accuracy %": percent(seen.accuracy, 1),
            "agreement %": percent(seen.agreement, 1),
            "token agreement %": percent(seen.token_agreement, 1),
            "drop": percent(seen.drop),
            "drop at most": percent(seen.bound(confidence)) if number else 0.0,
            "chosen": "yes" if number and done.trials[number - 1] is done.chosen else "",
        }
        for number, (name, seen, left) in enumerate(rows)
    ]


def _parts(done: QuantizedBundle) -> list[dict[str, Any]]:
    left = set(done.chosen.left)
    return [
        {
            "part": part,
            "relative error alone": float(f"{error:.3g}"),
            "quantized": "no" if part in left else "yes",
        }
        for part, error in done.sensitivity.items()
    ]
