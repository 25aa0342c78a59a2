"""``vtp export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..packages import require
from ..runtime.bundle.keep import Keep, Keeps, show_keeps
from .options import keep_options

if TYPE_CHECKING:
    from ..export import Progress
    from ..runtime.bundle.manifest import Manifest
    from ..runtime.bundle.plan import Plan

_PACKAGES = (
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnx_ir",
    "safetensors",
    "jinja2",
)


@click.command()
@click.argument("model")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the bundle. It appears complete, or not at all.",
)
@keep_options
@click.option(
    "--method",
    metavar="NAME",
    help="Pruning method; 'vtp list methods' shows all, 'none' exports without pruning. "
    "NAME:PRESET uses a published set of parameters. NAME+NAME combines a method on the vision "
    "side with one inside the decoder.  [default: fastervlm, with --score column-mean if the "
    "tower has no [CLS]; no method with --stage]",
)
@click.option(
    "--set",
    "parameters",
    multiple=True,
    metavar="P=VALUE",
    help="Parameter of the method, such as layer=3 (NAME.P=VALUE if two methods have it). Repeat "
    "the option for several.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="LAYER:KEEP:SCORE",
    help="Drop tokens before language layer LAYER by SCORE ('vtp list scores'). Repeat the option "
    "for several drops.",
)
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File of 'vtp calibrate schedule' with method, drops and keeps; replaces the options for "
    "them.",
)
@click.option(
    "--score",
    metavar="S",
    help="Attention that a method on the vision side uses: cls, or column-mean for towers without "
    "[CLS].",
)
@click.option(
    "--positions",
    metavar="MODE",
    help="Position numbers of kept tokens: compact, original or compact-per-stage.  [default: as "
    "published for the method]",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the method 'random'.  [default: 0]"
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Type of weights and KV cache. float16 and bfloat16 halve both; bfloat16 is for TensorRT "
    "only. Norms, softmax and scores stay float32.",
)
@click.option(
    "--weights",
    type=click.Choice(["int4", "int8"]),
    help="Store the matrices of the decoder and of its head in 4 or 8 bits, in blocks with one "
    "scale each. Everything else stays in --dtype.",
)
@click.option(
    "--block",
    type=click.Choice(["16", "32", "64", "128", "256"]),
    help="With --weights: numbers per block.  [default: 32]",
)
@click.option(
    "--symmetric/--asymmetric",
    default=None,
    help="With --weights: blocks without or with zero points (with: target ort only).  [default: "
    "symmetric]",
)
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="T",
    help="Flavor of the graphs: ort (ONNX Runtime), onnx (TensorRT 10.15 and later, TensorRT-RTX) "
    "or trt10 (TensorRT 10.0 to 10.14, JetPack 6). Repeat the option for several.  [default: ort, "
    "onnx]",
)
@click.option(
    "--layout",
    type=click.Choice(["unpad", "spatial"]),
    help="For models with tiles (LLaVA-NeXT, OneVision): unpad removes padding and ends every row "
    "with a separator, like transformers; spatial reads all tokens of the tiles and no separators, "
    "like FasterVLM's published code.  [default: unpad]",
)
@click.option(
    "--check",
    metavar="C",
    default="auto",
    show_default=True,
    help="What is compared with PyTorch at the end: full; layers:N (the vision graph and the first "
    "N language layers); or auto (full if memory can hold the model, otherwise layers:1).",
)
@click.option(
    "--context",
    type=int,
    metavar="N",
    help="Maximum number of tokens of prompt and answer together.  [default: that of config.json, "
    "or less if graphs cannot cover it]",
)
@click.option("--revision", metavar="REV", help="Commit, tag or branch of a model on the hub.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def export(
    model: str,
    out: Path,
    keep: Keeps | None,
    average: Keep | None,
    method: str | None,
    parameters: tuple[str, ...],
    stages: tuple[str, ...],
    plan_path: Path | None,
    score: str | None,
    positions: str | None,
    seed: int | None,
    dtype: str,
    weights: str | None,
    block: str | None,
    symmetric: bool | None,
    targets: tuple[str, ...],
    layout: str | None,
    check: str,
    context: int | None,
    revision: str | None,
    force: bool,
) -> None:
    """Export MODEL to a bundle: ONNX graphs, weights, tokenizer, manifest.

    MODEL is a preset ('vtp list presets'), the path of a local folder, or a hub id. --keep sets the
    default of the bundle; every request can choose another keep. A method inside the decoder, or
    --stage, cuts the language model into stages. Finally, every graph is checked against PyTorch.

    \b
    Example:
      vtp export tiny --keep 0.1 --out out/tiny
      vtp export llava15 --keep 0.25 --out out/llava15
      vtp export ./my-llava --method none --out out/unpruned
      vtp export llava15 --method pyramiddrop --keep 0.5,0.25,0.125 --out out/pyramid
      vtp export llava15 --method fastv --set layer=3 --out out/fastv
      vtp export llava15 --dtype float16 --weights int4 --out out/small
      vtp export llava15 --target ort --target trt10 --out out/for-jetpack-6
      vtp export llava15 --dtype float16 --check layers:2 --out out/half
      vtp export llava15 --stage 2:0.5:attention --stage 16:0.1:next-attention --out out/mine
      vtp export llava15 --plan questions-calibration/plan.json --out out/found
    """
    require("export", "vtp export", *_PACKAGES)
    require("cpu", "the check at the end of vtp export", "onnxruntime")
    if seed is not None and "random" not in (method or ""):
        raise click.UsageError(
            f"--seed is a parameter of --method random, not of {method or 'fastervlm'}"
        )
    if weights is None and (block, symmetric) != (None, None):
        raise click.UsageError("--block and --symmetric/--asymmetric are options of --weights")
    own = {
        "--keep": keep,
        "--average": average,
        "--method": method,
        "--set": parameters,
        "--stage": stages,
        "--score": score,
        "--positions": positions,
        "--seed": seed,
    }
    beside = [name for name, value in own.items() if value not in (None, ())]
    if plan_path is not None and beside:
        raise click.UsageError(f"--plan replaces other options: leave out {', '.join(beside)}")
    given: dict[str, Any] = dict(_assignment(text) for text in parameters)
    given |= {} if seed is None else {"seed": seed}
    given |= {} if score is None else {"score": score}
    from ..export import ExportOptions, export_model
    from ..export.plan.plan_file import read_plan
    from ..export.plan.precision import DEFAULT_BLOCK

    if plan_path is not None:
        plan = read_plan(plan_path)
        method, stages, keep, positions = plan.method, plan.stages, plan.keep, plan.positions
        given = plan.parameters
    options = ExportOptions(
        method=method,
        parameters=given,
        stages=stages,
        positions=positions,
        keep=keep,
        average=average,
        dtype=dtype,
        weights=weights,
        block=int(block or DEFAULT_BLOCK),
        symmetric=symmetric is not False,
        targets=targets or None,
        layout=layout,
        check=check,
        context=context,
        revision=revision,
        force=force,
    )
    with _progress() as progress:
        manifest = export_model(model, out, options, progress)
    worst = max(manifest.golden.measured, key=lambda deviation: deviation.max_abs)
    print(
        f"{out}: {_kept(manifest.plan)} by default; "
        f"largest difference from PyTorch {worst.max_abs:.1e} ({worst.graph}, {worst.output})"
        f"{_extent(manifest)}"
    )


def _extent(manifest: Manifest) -> str:
    layers = manifest.golden.layers
    if layers is None:
        return ""
    return f"; checked: vision, first {layers} of {manifest.language.layers} language layers"


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise click.UsageError(f"--set {text!r} is not of the form P=VALUE, such as layer=3")
    return name.strip(), value.strip()


def _kept(plan: Plan) -> str:
    """``fastv, keep 0.5: 256, 128 of 256 image tokens in stages of 2, 2 layers``."""
    counts = plan.counts(None, 1)
    tokens = plan.tokens_of_stages(counts, 1)
    if len(tokens) == 1:
        return f"{plan.name}, {tokens[0]} of {plan.tokens} image tokens kept"
    layers = ", ".join(str(stage.layers) for stage in plan.stages)
    return (
        f"{plan.name}, keep {show_keeps(plan.keeps(None))}: {', '.join(map(str, tokens))} of "
        f"{plan.tokens} image tokens in stages of {layers} layers, "
        f"{plan.average(counts, 1):.1f} on average,"
    )


class _progress:  # noqa: N801 - a context manager in the manner of contextlib
    """Steps as lines, or as a live display on a terminal, on stderr."""

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Display

        from ..export import Progress

        live = sys.stderr.isatty()
        self._display = display = Display(
            SpinnerColumn(finished_text="done"),
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not live,
        )

        class Drawn(Progress):
            task = None

            def step(self, text: str) -> None:
                if not live:
                    print(text, file=sys.stderr, flush=True)
                self.end()
                self.task = display.add_task(text, total=None)

            def note(self, text: str) -> None:
                display.console.print(f"note: {text}", style="yellow", highlight=False)

            def fraction(self, done: int, total: int) -> None:
                if self.task is not None:
                    display.update(self.task, completed=done, total=total)

            def end(self) -> None:
                if self.task is not None:
                    display.update(self.task, total=1, completed=1)

        self._drawn = Drawn()
        display.start()
        return self._drawn

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._drawn.end()
        self._display.stop()
