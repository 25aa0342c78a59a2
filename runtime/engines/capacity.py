"""How large a request an engine takes: fixed when it is built, recorded with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import BeyondLimits, OptionInvalid
from ..bundle.contract import (
    DROP,
    KEEP,
    MERGED,
    RATERS,
    RECYCLED,
    SHRINK,
    VIDEO,
    VISION,
    kind_and_number,
)
from ..bundle.keep import Keeps
from ..bundle.manifest import Manifest
from ..bundle.plan import Drop, Extent, Plan
from ..bundle.prompt import PromptLayout
from ..bundle.variants import LimitsRecord
from ..preprocessing import Preprocessor

ANSWER_TOKENS = 512
"""Room for text, in prompt and answer together, that a build leaves where it is not told."""
_TYPICAL_TEXT = 64


def extent_built_for(limits: LimitsRecord) -> Extent:
    """The largest images of a turn."""
    return Extent(
        tiles=(limits.image_tokens,) * (limits.tiles * limits.images),
        sizes=(limits.rows,) * limits.images,
        separators=limits.separators * limits.images,
    )


def most_kept(limits: LimitsRecord, images: int = 0) -> tuple[int, ...]:
    """Most image tokens that each drop leaves of so many images; 0: of all of a turn."""
    images = images or limits.images
    return tuple(
        min(limits.rows, count * limits.tiles + limits.separators) * images
        for count in limits.counts
    )


def largest_selection(plan: Plan, limits: LimitsRecord) -> int:
    """Most tokens that one selection keeps."""
    kept = (
        count if drop.layer == 0 else _shared(drop, most_kept(limits, 1)[number], limits)
        for number, (drop, count) in enumerate(zip(plan.drops, limits.counts, strict=True))
    )
    return max(kept, default=0)


def largest_candidates(plan: Plan, limits: LimitsRecord) -> int:
    """Most tokens among which one selection chooses."""
    among = (
        limits.image_tokens if drop.layer == 0 else _shared(drop, limits.rows, limits)
        for drop in plan.drops
    )
    return max(among, default=0)


def _shared(drop: Drop, of_one: int, limits: LimitsRecord) -> int:
    """Tokens of one image, or of all, that a drop in the decoder ranks against each other."""
    return of_one * (limits.images if drop.budget == "all" else 1)


def _stage_tokens(plan: Plan, limits: LimitsRecord) -> tuple[int, ...]:
    """Most image tokens in each language stage."""
    return plan.tokens_of_stages(most_kept(limits), extent_built_for(limits))


def capacities(plan: Plan, limits: LimitsRecord) -> tuple[int, ...]:
    """Rows of the KV cache of each language stage."""
    seen = _stage_tokens(plan, limits)
    return tuple(limits.tokens - seen[0] + of_stage for of_stage in seen)


def check_request(
    plan: Plan, limits: LimitsRecord, counts: Sequence[int], extent: Extent, rebuild: str
) -> None:
    """Refuse a request that is too large.

    Args:
        plan: the bundle's.
        limits: of the engines.
        counts: image tokens left after each drop over all images, as from ``Plan.counts``.
        extent: the images of the turn.
        rebuild: the ``vtp build`` command that the message ends with.

    Raises:
        BeyondLimits: naming the limit.
    """
    if extent.images > limits.placed:
        what, more = "images per turn", "--max-images N"
        if limits.parts > 1:
            what = "images, tiles and frames per turn"
            more += " or --max-frames N" if limits.frames else ""
        raise BeyondLimits(what, extent.images, limits.placed, f"{rebuild} {more}")
    largest = max(extent.tiles, default=0)
    if largest > limits.image_tokens:
        remedy = f"give a smaller image, or {rebuild} --max-image-tokens N"
        raise BeyondLimits("tokens of an image", largest, limits.image_tokens, remedy)
    tiles = limits.tiles * limits.images
    if len(extent.tiles) > tiles:
        # The largest image fits: it is a video.
        what = "frames of a video"
        raise BeyondLimits(what, len(extent.tiles), tiles, f"{rebuild} --max-frames N")
    others = max(extent.separators, extent.total - sum(extent.tiles))
    for drop, count, of_tile, most in zip(
        plan.drops, counts, limits.counts, most_kept(limits), strict=True
    ):
        if count > min(most, of_tile * len(extent.tiles) + others):
            what = f"kept tokens of a tile before layer {drop.layer}"
            each = -(-count // len(extent.tiles))
            if each > of_tile:
                raise BeyondLimits(what, each, of_tile, f"{rebuild} --max-keep K")
            what = f"kept image tokens before layer {drop.layer}"
            raise BeyondLimits(what, count, most, "keep fewer (--keep)")


@dataclass(frozen=True, kw_only=True)
class BuildSizes:
    """How large the requests of a build are to be."""

    tokens: int | None = None
    """Most tokens of a conversation; None takes the images and ``ANSWER_TOKENS``."""
    images: int = 1
    """Most images of a turn."""
    frames: int | None = None
    """Most frames of a video; None takes as many as the model samples by itself, where that is one
    number."""
    keep: Keeps | None = None
    """Largest keep; None takes all tokens."""
    image_tokens: int | None = None
    """Most image tokens of one image, of models whose images have as many as their size asks for;
    None takes the plan's."""


def make_limits(manifest: Manifest, asked: BuildSizes) -> LimitsRecord:
    """The limits of a build.

    Args:
        manifest: the bundle's.
        asked: for what it is built.

    Raises:
        OptionInvalid: frames for a model that takes no video.
        KeepOutOfRange, KeepCountMismatch, KeepGrows: as for ``Plan.counts``.
        BeyondLimits: more tokens than the model's context, or than leave room for text.
    """
    plan, context = manifest.plan, manifest.language.context
    image_tokens = asked.image_tokens or plan.tokens
    frames = _frames(manifest.preprocessing, asked.frames)
    largest = [manifest.preprocessing.largest(image_tokens)]
    if frames:
        largest.append(manifest.preprocessing.largest(image_tokens, frames))
    tiles, rows, separators = (max(numbers) for numbers in zip(*largest, strict=True))
    plan = plan.of_size(image_tokens)
    limits = LimitsRecord(
        tokens=context,
        images=asked.images,
        frames=frames,
        tiles=tiles,
        rows=rows,
        separators=separators,
        counts=plan.counts(1.0 if asked.keep is None else asked.keep, 1),
        image_tokens=image_tokens,
        parts=_parts(manifest.prompt, tiles, frames),
    )
    read = _stage_tokens(plan, limits)[0]
    tokens = min(context, read + ANSWER_TOKENS) if asked.tokens is None else asked.tokens
    if tokens > context:
        raise BeyondLimits("tokens", tokens, context, "this is the model's context")
    if tokens < read + 2:
        raise BeyondLimits(
            f"image tokens of {asked.images} image{'s' if asked.images > 1 else ''}",
            read,
            tokens - 2,
            "--max-tokens N includes the image tokens; give a larger one, or a smaller --max-keep "
            "K",
        )
    return replace(limits, tokens=tokens)


def _parts(layout: PromptLayout, tiles: int, frames: int) -> int:
    """How many placeholders an image or video has at most."""
    of_frames = frames if layout.video is not None and layout.video.frame is not None else 1
    return max(1, of_frames, tiles if layout.tiles is not None else 1)


def _frames(preprocessing: Preprocessor, asked: int | None) -> int:
    sampling = preprocessing.sampling
    if asked and sampling is None:
        raise OptionInvalid("max-frames", asked, "none: this model does not support videos")
    return (sampling.count or 0 if sampling else 0) if asked is None else asked


Range = tuple[int, int, int]
"""Least, typical and most of a size."""


def ranges(
    plan: Plan, limits: LimitsRecord, graph: str, decoding: bool = False
) -> tuple[Mapping[str, Range], Mapping[str, Range]]:
    """What the sizes of a graph may be.

    Args:
        plan: the bundle's.
        limits: of the build.
        graph: name, as in the manifest.
        decoding: the profile of decode steps, of a language graph.

    Returns:
        Ranges of the symbolic dimensions by name, and of the values of inputs that hold a size.
    """
    rows_of, rows = capacities(plan, limits), limits.rows * limits.images
    least = min(plan.tokens, limits.image_tokens)
    typical_plan = plan.of_size(least)
    usual = typical_plan.counts(None, 1)
    kind, number = kind_and_number(graph)
    tokens = (1, min(limits.tokens, least + _TYPICAL_TEXT), limits.tokens)
    text = (1, min(limits.tokens, _TYPICAL_TEXT), limits.tokens)
    if kind in (VISION, VIDEO):
        count = _range(usual[0], limits.counts[0]) if plan.vision_drop else (1, 1, 1)
        of_image = _range(least, limits.image_tokens)
        tiles = _range(1, limits.tiles * limits.images)
        return {"images": tiles, "tokens": of_image, "texts": text}, {KEEP: count}
    if kind == SHRINK:
        return {"images": _range(1, limits.tiles * limits.images), "rows": _range(least, rows)}, {}
    if kind == RATERS:
        return {"tokens": tokens, "image_tokens": _range(least, rows), "raters": text}, {}
    if kind == DROP:
        at = number - 1
        typical = typical_plan.tokens_of_stages(usual, 1)[at]
        drop = plan.decoder_drops[at]
        share = limits.images if drop.budget == "all" else 1
        whole = _stage_tokens(plan, replace(limits, images=share))[at]
        most = plan.in_decoder(most_kept(limits, share))[at]
        arriving = rows_of[at]
        of_drop = (1, min(arriving, typical + _TYPICAL_TEXT), arriving)
        sizes = {
            "tokens": of_drop,
            "groups": _range(1, 1 if drop.budget == "all" else limits.placed),
            "candidates": _range(typical, whole),
            "texts": text,
            "raters": text,
            "capacity": (arriving, arriving, arriving),
            "past": of_drop,
        }
        return sizes, {
            KEEP: _range(plan.in_decoder(usual)[at], most),
            RECYCLED: _range(typical, whole),
            MERGED: _range(typical, whole),
        }
    capacity = rows_of[number]
    usual_tokens = typical_plan.tokens_of_stages(usual, 1)[number] + _TYPICAL_TEXT
    return {
        "batch": (1, 1, 1),
        # A decode profile of exactly one token makes TensorRT-RTX store the weights a second time.
        "tokens": (1, 1, 2) if decoding else (1, min(capacity, usual_tokens), capacity),
        "capacity": (capacity, capacity, capacity),
        "past": (0, min(capacity, usual_tokens), capacity),
        "scorers": (1, 1, 2) if decoding else text,
        "columns": _range(least, rows),
        "answers": (1, 1, 2) if decoding else text,
    }, {}


def _range(typical: int, most: int) -> Range:
    return 1, max(1, min(typical, most)), max(1, most)
