"""``vtp calibrate quantize``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...packages import require
from ...runtime.bundle.keep import Keeps, show_keeps
from ..options import KeepsType, bundle_argument, format_option
from .common import ShownProgress, confidence_option, data_options, opened, percent, tell

if TYPE_CHECKING:
    from ...calibration.measure import Measured
    from ...calibration.quantize import Quantized


@click.command()
@bundle_argument
@data_options
@confidence_option(
    "Chance that no more is lost on other questions than 'drop at most' says; the choice goes by "
    "what was measured on these."
)
@click.option(
    "--weights",
    "form_of_weights",
    type=click.Choice(["int8", "fp8", "int4-awq"]),
    default="int8",
    show_default=True,
    help="int8 and fp8: weights and activations of all matrix products (fp8 for TensorRT on cards "
    "of compute capability 8.9 and up). int4-awq: the decoder's weights alone, those that meet "
    "large activations with more care.",
)
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the quantized bundle; the bundle in DIR stays as it is.",
)
@click.option("--force", is_flag=True, help="Replace the bundle that is there already.")
@click.option(
    "--keep",
    "keeps",
    type=KeepsType(),
    metavar="K",
    help="Keep of the deployed model, at which activations are seen.  [default: the bundle's]",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="P",
    help="Most percentage points of accuracy (or of agreement with the bundle in DIR) that may be "
    "lost on the data; parts that suffer most stay as they are until it holds.",
)
@click.option(
    "--requests",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    metavar="N",
    help="Questions whose activations are looked at, the first of the data.",
)
@click.option(
    "--ranges",
    type=click.Choice(["minmax", "percentile", "entropy"]),
    default="minmax",
    show_default=True,
    help="How the range of an activation is made of what was seen.",
)
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
@format_option
def quantize(
    bundle: Path,
    data_file: Path,
    out: Path | None,
    confidence: float,
    max_new_tokens: int | None,
    form_of_weights: str,
    target: Path,
    force: bool,
    keeps: Keeps | None,
    max_drop: float,
    requests: int,
    ranges: str,
    threads: int | None,
    form: str,
) -> None:
    """Quantize the matrix products of the bundle in DIR, from what it sees at work.

    Questions of --data are asked to see the activations of the pruned model, then to measure what
    is lost. Norms, softmax, scores, the head and what is added to the residual are not rounded.

    \b
    Example:
      vtp calibrate quantize out/tiny --data questions.jsonl --to out/tiny-int8
      vtp calibrate quantize out/tiny --data questions.jsonl --to out/tiny-fp8 --weights fp8
    """
    require("cpu", "vtp calibrate quantize", "onnxruntime")
    require("export", "vtp calibrate quantize", "onnx", "onnx_ir", "ml_dtypes")
    from ...calibration.asking import AskOptions
    from ...calibration.quantize import QuantizeOptions, Quantizer
    from ...export.output import replace_folder
    from ...runtime import Bundle

    source = Bundle(bundle)
    options = QuantizeOptions(
        form=form_of_weights,
        keep=source.manifest.plan.keeps(keeps),
        ranges=ranges,
        requests=requests,
        max_drop=max_drop / 100,
        threads=threads,
    )
    asking = AskOptions(max_new_tokens=max_new_tokens)
    with replace_folder(target, force) as work, opened(data_file, out) as (data, _, journal):
        quantizer = Quantizer(source, data, journal, options, asking, ShownProgress())
        done = quantizer.run(work)
    tell({"accuracy": _rows(done, form_of_weights, confidence), "sensitivity": _parts(done)}, form)
    seen = Bundle(target).manifest
    print(
        f"[{target}: {form_of_weights} at keep {show_keeps(options.keep)}, "
        f"{source.manifest.weights.bytes / 1e6:.1f} -> {seen.weights.bytes / 1e6:.1f} MB of "
        f"weights; loses {100 * done.chosen.measured.drop:.2f} points here]",
        file=sys.stderr,
    )


def _rows(done: Quantized, form: str, confidence: float) -> list[dict[str, Any]]:
    rows: list[tuple[str, Measured, tuple[str, ...]]] = [("as it was", done.before, ())]
    rows += [(form, trial.measured, trial.left) for trial in done.trials]
    return [
        {
            "bundle": name,
            "parts left": len(left),
            "accuracy %": percent(seen.accuracy, 1),
            "agreement %": percent(seen.agreement, 1),
            "token agreement %": percent(seen.token_agreement, 1),
            "drop": percent(seen.drop),
            "drop at most": percent(seen.bound(confidence)) if number else 0.0,
            "chosen": "yes" if number and done.trials[number - 1] is done.chosen else "",
        }
        for number, (name, seen, left) in enumerate(rows)
    ]


def _parts(done: Quantized) -> list[dict[str, Any]]:
    left = set(done.chosen.left)
    return [
        {
            "part": part,
            "relative error alone": float(f"{error:.3g}"),
            "quantized": "no" if part in left else "yes",
        }
        for part, error in done.sensitivity.items()
    ]
