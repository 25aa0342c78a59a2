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
    help="Engine to build: TensorRT (Jetson, data center) or TensorRT-RTX (RTX cards).",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="X.Y",
    help="Compute capability of a card to build for, such as 8.9; only for tensorrt-rtx, which can "
    "build for absent cards. Repeat the option for several.  [default: TensorRT-RTX chooses]",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=2),
    metavar="N",
    help="Maximum length of a conversation: text, image tokens and answers.  [default: 512 more "
    "than the images need]",
)
@click.option(
    "--max-images",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Maximum number of images per turn.",
)
@click.option(
    "--max-frames",
    type=click.IntRange(min=0),
    metavar="N",
    help="Maximum number of frames of a video; 0 excludes videos.  [default: the model's own "
    "number of frames, if it is fixed]",
)
@click.option(
    "--max-image-tokens",
    type=click.IntRange(min=1),
    metavar="N",
    help="Maximum number of tokens of an image before pruning. Required for models whose number of "
    "image tokens depends on the image size (Qwen2-VL); other models do not accept it.",
)
@click.option(
    "--max-keep",
    type=KeepsType(),
    metavar="K",
    help="Largest keep that requests can use: a smaller one makes the KV cache smaller. A plan "
    "that drops tokens at several places takes one keep for each, separated by commas.  [default: "
    "all tokens]",
)
@click.option(
    "--topk",
    type=click.Choice(["plugin", "native"]),
    default="plugin",
    show_default=True,
    help="What selects the tokens: the plugin of this package, or TensorRT's own operators (at "
    "most 3840 tokens; such engines load without Python).",
)
@click.option(
    "--name", metavar="NAME", help="Name of the variant. A bundle can have several variants."
)
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
    """Build TensorRT engines from the graphs of the bundle in DIR.

    The engines are added to the bundle as a variant; 'vtp run DIR --engine E' then uses them.
    tensorrt builds on the device that will run the engines; tensorrt-rtx builds on any machine,
    even without a card. A variant of the same name is replaced once the new one is complete.

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
