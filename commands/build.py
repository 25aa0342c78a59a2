"""``vtp build``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..packages import require
from ..runtime.bundle.keep import Keeps
from ..runtime.bundle.variants import LimitsRecord
from .options import KeepsType, bundle_argument


@click.command()
@bundle_argument
@click.option(
    "--engine",
    required=True,
    type=click.Choice(["tensorrt", "tensorrt-rtx"]),
    help="What to build for: TensorRT (Jetson, data centre) or TensorRT-RTX (RTX cards).",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="X.Y",
    help="Card to build for, such as 8.9; again for more. TensorRT-RTX builds for cards that are "
    "not here; without this option, for those that it chooses itself.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    metavar="N",
    help="Most tokens of a conversation: text, image tokens, answer.  [default: the images, and "
    "512 more]",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Most images of a turn.",
)
@click.option(
    "--max-frames",
    type=click.IntRange(min=0),
    metavar="N",
    help="Most frames of a video; 0 leaves videos out.  [default: as many as the model takes by "
    "itself, where that is one number]",
)
@click.option(
    "--max-image-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Most image tokens of one image before any is dropped; needed for models whose images "
    "have as many as their size asks for (Qwen2-VL), and for no other.",
)
@click.option(
    "--max-keep",
    type=KeepsType(),
    metavar="K",
    help="Largest keep that will be asked for, one for each drop: a smaller one makes the KV cache "
    "smaller.  [default: all tokens]",
)
@click.option(
    "--topk",
    type=click.Choice(["plugin", "native"]),
    default="plugin",
    show_default=True,
    help="How tokens are selected: by the plugin of this package, or by TensorRT's own operators "
    "(at most 3840 tokens; the engines then need no Python to load).",
)
@click.option("--name", metavar="NAME", help="Name of the variant; several may live side by side.")
def build(
    bundle: Path,
    engine: str,
    capabilities: tuple[str, ...],
    max_tokens: int | None,
    max_images: int,
    max_frames: int | None,
    max_image_tokens: int | None,
    max_keep: Keeps | None,
    topk: str,
    name: str | None,
) -> None:
    """Build the graphs of the bundle in DIR into TensorRT engines, beside them.

    The engines become a variant in the manifest; 'vtp run DIR --engine E' then uses them. Engines
    of --engine tensorrt are built on the device that will run them; those of tensorrt-rtx on any
    machine, without a card too. A variant of the same name is replaced when the new one is whole.

    \b
    Example:
      vtp build out/tiny --engine tensorrt-rtx
      vtp build out/llava15 --engine tensorrt-rtx --compute-capability 8.9 --max-keep 0.25
      vtp build out/llava15 --engine tensorrt --max-tokens 1024 --topk native --name native
      vtp build out/qwen2-vl-2b --engine tensorrt-rtx --max-image-tokens 1280 --max-keep 0.25
    """
    require("build", "vtp build", "onnx", "polygraphy")
    from ..runtime.engines.tensorrt.variant import BuildOptions, BuildProgress, build_variant

    class Shown(BuildProgress):
        def step(self, text: str) -> None:
            print(text, file=sys.stderr, flush=True)

        def warn(self, text: str) -> None:
            print(f"Warning: {text}", file=sys.stderr, flush=True)

    options = BuildOptions(
        engine=engine,
        compute_capabilities=capabilities,
        max_tokens=max_tokens,
        max_images=max_images,
        max_frames=max_frames,
        max_image_tokens=max_image_tokens,
        max_keep=max_keep,
        topk=topk,
        name=name,
    )
    variant = build_variant(bundle, options, Shown())
    total = sum(record.bytes for record in variant.engines)
    cards = ", ".join(variant.compute_capabilities) or "the library's choice of cards"
    print(
        f"{bundle}: variant {variant.name!r}, {len(variant.engines)} engines of {variant.engine} "
        f"{variant.version} for {cards}, {total / 1e6:.1f} MB; up to {variant.limits.tokens} "
        f"tokens, {_turn(variant.limits)}; selection: {variant.topk}"
    )


def _turn(limits: LimitsRecord) -> str:
    parts = [f"{limits.images} image{'s' if limits.images > 1 else ''}"]
    if limits.frames:
        parts.append(f"a video of {limits.frames} frames")
    return " or ".join(parts) + " a turn"
