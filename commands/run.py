"""``vtp run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.bundle.cost import FLOPS_FORMULA
from ..runtime.bundle.keep import Keep, Keeps
from .options import (
    bundle_argument,
    engine_options,
    guide_option,
    keep_options,
    media_options,
    variant_option,
)

if TYPE_CHECKING:
    from ..runtime import Pipeline, Result
    from ..runtime.chat.result import StageResult


@click.command()
@bundle_argument
@media_options()
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of frames of a video.  [default: the model's own number]",
)
@click.option("--prompt", required=True, metavar="T", help="The question.")
@keep_options
@click.option("--max-new-tokens", type=int, metavar="N", help="Maximum length of the answer.")
@click.option(
    "--temperature", type=float, metavar="X", help="Temperature of sampling; 0 is greedy."
)
@click.option(
    "--top-p",
    type=float,
    metavar="P",
    help="Nucleus sampling: total probability of the candidates.",
)
@click.option(
    "--top-k", type=int, metavar="N", help="Sample from the N most probable tokens; 0: from all."
)
@click.option(
    "--repetition-penalty",
    type=float,
    metavar="X",
    help="Above 1, tokens that are already in prompt or answer become less likely.",
)
@click.option("--seed", type=int, metavar="N", help="Seed of sampling, to repeat an answer.")
@click.option(
    "--save-overlay",
    type=click.Path(path_type=Path),
    metavar="F.png",
    help="Write the image with kept patches bright and dropped patches dimmed.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    metavar="N",
    help="Maximum number of pixels of an input image.",
)
@guide_option
@click.option(
    "--exit-threshold",
    type=float,
    metavar="X",
    help="Return the guide's answer if its certainty is above X, such as 0.9.",
)
@engine_options
@variant_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Stream the answer as text, or print one JSON document when it is complete.",
)
def run(
    bundle: Path,
    images: tuple[Path, ...],
    videos: tuple[Path, ...],
    frames: int | None,
    prompt: str,
    keep: Keeps | None,
    average: Keep | None,
    max_new_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    repetition_penalty: float | None,
    seed: int | None,
    save_overlay: Path | None,
    max_pixels: int | None,
    guide: Path | None,
    exit_threshold: float | None,
    engine: str,
    threads: int | None,
    variant: str | None,
    form: str,
) -> None:
    """Ask the bundle in DIR a question about images or videos.

    The answer streams to stdout. The number of kept tokens and the times go to stderr. Images go
    before the question, or to each {image} in the prompt.

    \b
    Example:
      vtp run out/tiny --image scene.png --prompt "how many objects are there?"
      vtp run out/tiny --image scene.png --prompt "where is the red circle?" \\
          --keep 0.05 --save-overlay kept.png
      vtp run out/large --guide out/small --exit-threshold 0.9 --image scene.png \\
          --prompt "what number is shown?"
      vtp run out/video-llava --video clip.mp4 --prompt "what happens?" --keep 0.1
      vtp run out/tiny --engine tensorrt-rtx --image scene.png --prompt "what is it?"
    """
    from ..runtime import Video, load
    from ..runtime.media.images import DEFAULT_MAX_PIXELS
    from ..runtime.media.overlay import check_path

    if frames is not None and not videos:
        raise click.UsageError("--frames needs a --video")
    if save_overlay is not None and not images:
        raise click.UsageError("--save-overlay needs an --image")
    if save_overlay is not None:
        check_path(save_overlay)
    if exit_threshold is not None and guide is None:
        raise click.UsageError("--exit-threshold needs a --guide")
    pipeline = load(
        bundle,
        engine,
        threads=threads,
        variant=variant,
        max_pixels=max_pixels or DEFAULT_MAX_PIXELS,
        guide=guide,
    )
    answer = pipeline.stream(
        [*images, *(Video(path, frames) for path in videos)],
        prompt,
        keep=keep,
        average=average,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        repetition_penalty=repetition_penalty,
        seed=seed,
        exit_threshold=exit_threshold,
    )
    for piece in answer:
        if form == "text":
            print(piece, end="", flush=True)
    result = answer.result
    if form == "text":
        print(flush=True)
        print(_summary(result), file=sys.stderr)
    else:
        print(json.dumps(_document(result), indent=1))
    if save_overlay is not None:
        _overlays(pipeline, result, images, save_overlay)


def _summary(result: Result) -> str:
    times, guide = result.timings, result.guide
    lines = []
    if guide is not None:
        check = "" if guide.consistency is None else f", consistency {guide.consistency:.3f}"
        lines.append(
            f"[guide: {guide.ms:.1f} ms | confidence {guide.confidence:.3f}{check} | "
            + ("its answer was returned]" if guide.exited else "the large model was asked]")
        )
    before = result.image_tokens_before
    for number, stage in enumerate(result.stages):
        by = f", dropped by {stage.score}" if stage.score else ""
        arrived = stage.arrived if number else before
        lines.append(
            f"[stage {number}: layers {stage.first}..{stage.stop - 1} | {stage.image_tokens} of "
            f"{arrived} image tokens{by} | {stage.tokens} tokens | "
            f"{stage.flops / 1e9:.3g} GFLOP | KV {stage.kv_bytes:,} bytes]"
        )
    flops = sum(stage.flops for stage in result.stages)
    lines.append(
        f"[kept {result.image_tokens} of {before} image tokens, "
        f"{result.average_tokens:.1f} per layer on average | "
        f"prompt {result.prompt_tokens} tokens, {flops / 1e9:.3g} GFLOP ({FLOPS_FORMULA}) | "
        f"vision {times.vision_ms:.1f} ms, prefill {times.prefill_ms:.1f} ms, "
        f"first token after {times.ttft_ms:.1f} ms, "
        f"then {times.ms_per_token:.2f} ms per token | KV cache {result.cache_bytes:,} bytes]"
    )
    return "\n".join(lines)


def _guide(result: Result) -> dict[str, Any] | None:
    guide = result.guide
    if guide is None:
        return None
    return {**vars(guide), "scores": [scores.tolist() for scores in guide.scores]}


def _stage(stage: StageResult) -> dict[str, Any]:
    return {
        **vars(stage),
        "kept": [kept.tolist() for kept in stage.kept],
        "scores": None if stage.scores is None else stage.scores.tolist(),
    }


def _document(result: Result) -> dict[str, Any]:
    times = result.timings
    return {
        "text": result.text,
        "tokens": list(result.tokens),
        "finished": result.finished,
        "prompt_tokens": result.prompt_tokens,
        "image_tokens": result.image_tokens,
        "image_tokens_before": result.image_tokens_before,
        "kept": [kept.tolist() for kept in result.kept],
        "scores": [scores.tolist() for scores in result.scores],
        "average_tokens": result.average_tokens,
        "stages": [_stage(stage) for stage in result.stages],
        "flops_formula": FLOPS_FORMULA,
        "guide": _guide(result),
        "cache_tokens": result.cache_tokens,
        "cache_bytes": result.cache_bytes,
        "timings": {**vars(times), "ms_per_token": times.ms_per_token},
    }


def _overlays(pipeline: Pipeline, result: Result, images: tuple[Path, ...], target: Path) -> None:
    """One overlay for each image, not of videos, of the patches that reach the last layer; several
    are numbered before the suffix."""
    from ..runtime.chat.media import parts_of
    from ..runtime.media.images import load_image
    from ..runtime.media.overlay import save_overlay

    if result.guide is not None and result.guide.exited:
        print("[no overlay: the guide answered, so nothing was dropped]", file=sys.stderr)
        return
    manifest = pipeline.bundle.manifest
    reached = iter(result.reached)
    for number, source in enumerate(images, start=1):
        image = load_image(source, max_pixels=pipeline.max_pixels)
        medium = manifest.preprocessing(image, len(images))
        shown: list[int] = []
        for place, part in enumerate(parts_of(medium, manifest.prompt)):
            shown += (place * part.tile_tokens + part.shown(next(reached))).tolist()
        several = target.with_stem(f"{target.stem}-{number}")
        path = target if len(images) == 1 else several
        save_overlay(path, image, shown, grid=medium.grid, boxes=medium.boxes.tolist())
        print(f"[overlay: {path}]", file=sys.stderr)
