"""``vtp export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..packages import require
from ..runtime.plan import Keep
from .options import keep_option

if TYPE_CHECKING:
    from ..export import Progress

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
    help="Folder to write the bundle to; it appears complete or not at all.",
)
@keep_option
@click.option(
    "--method",
    default="fastervlm",
    show_default=True,
    metavar="NAME",
    help="Pruning method; 'vtp list methods' shows them, 'none' exports without pruning.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Seed of the method 'random' (0 if not given)."
)
@click.option("--revision", metavar="REV", help="Commit, tag or branch of a model on the hub.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
def export(
    model: str,
    out: Path,
    keep: Keep | None,
    method: str,
    seed: int | None,
    revision: str | None,
    force: bool,
) -> None:
    """Export MODEL to a bundle: ONNX graphs, weights, tokenizer, manifest.

    MODEL is a preset ('vtp list presets'), the path of a local folder, or a hub id. --keep sets the
    bundle's default; the runtime may choose any other. Ends by checking every graph against
    PyTorch.

    \b
    Example:
      vtp export tiny --keep 0.1 --out out/tiny
      vtp export llava15 --keep 0.25 --out out/llava15
      vtp export ./my-llava --method none --out out/unpruned
    """
    require("export", "vtp export", *_PACKAGES)
    require("cpu", "the check at the end of vtp export", "onnxruntime")
    if seed is not None and method != "random":
        raise click.UsageError(f"--seed is a parameter of --method random, not of {method}")
    from ..export import ExportOptions, export_model

    options = ExportOptions(
        method=method,
        parameters={} if seed is None else {"seed": seed},
        keep=keep,
        revision=revision,
        force=force,
    )
    with _progress() as progress:
        manifest = export_model(model, out, options, progress)
    plan = manifest.plan
    worst = max(manifest.golden.measured, key=lambda deviation: deviation.max_abs)
    print(
        f"{out}: {plan.method}, {plan.count(None)} of {plan.tokens} image tokens kept by default; "
        f"largest difference from PyTorch {worst.max_abs:.1e} ({worst.graph}, {worst.output})"
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
