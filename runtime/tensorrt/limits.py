"""How large a request an engine takes: fixed when it is built, recorded with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...errors import BeyondLimits
from ..keep import Keeps
from ..manifest import LanguageRecord, LimitsRecord
from ..plan import Extent, Plan

ANSWER_TOKENS = 512
"""Room for text, in prompt and answer together, that a build leaves where it is not told."""
_TYPICAL_TEXT = 64


def largest_selection(plan: Plan, limits: LimitsRecord) -> int:
    """Most tokens that one selection keeps."""
    kept = (
        count * (limits.images if drop.budget == "all" else 1)
        for drop, count in zip(plan.drops, limits.counts, strict=True)
    )
    return max(kept, default=0)


def largest_candidates(plan: Plan, limits: LimitsRecord) -> int:
    """Most tokens among which one selection chooses."""
    images = max((limits.images if drop.budget == "all" else 1 for drop in plan.drops), default=0)
    return limits.image_tokens * images


def capacities(plan: Plan, limits: LimitsRecord) -> tuple[int, ...]:
    """Rows of the KV cache of each language stage."""
    full = [count * limits.images for count in limits.counts]
    seen = plan.of_size(limits.image_tokens).tokens_of_stages(full, limits.images)
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
    images = len(extent.tiles)
    if images > limits.images:
        raise BeyondLimits("images of a turn", images, limits.images, f"{rebuild} --max-images N")
    largest = max(extent.tiles, default=0)
    if largest > limits.image_tokens:
        remedy = f"give a smaller image, or {rebuild} --max-image-tokens N"
        raise BeyondLimits("image tokens of an image", largest, limits.image_tokens, remedy)
    for drop, count, most in zip(plan.drops, counts, limits.counts, strict=True):
        if count > most * images + extent.separators:
            what = f"image tokens kept of an image before layer {drop.layer}"
            raise BeyondLimits(what, -(-count // images), most, f"{rebuild} --max-keep K")


def make_limits(
    plan: Plan,
    language: LanguageRecord,
    tokens: int | None,
    images: int,
    keep: Keeps | None,
    image_tokens: int | None = None,
) -> LimitsRecord:
    """The limits of a build.

    Args:
        plan: the bundle's.
        language: its sizes.
        tokens: most tokens of a conversation; None takes the images and ``ANSWER_TOKENS``.
        images: most images of a turn.
        keep: largest keep; None takes all tokens.
        image_tokens: most image tokens of one image before any is dropped; None takes the plan's.

    Raises:
        KeepOutOfRange, KeepCountMismatch, KeepGrows: as for ``Plan.counts``.
        BeyondLimits: more tokens than the model's context, or than leave room for text.
    """
    image_tokens = image_tokens or plan.tokens
    plan = plan.of_size(image_tokens)
    counts = plan.counts(1.0 if keep is None else keep, 1)
    read = plan.tokens_of_stages([count * images for count in counts], images)[0]
    if tokens is None:
        tokens = min(language.context, read + ANSWER_TOKENS)
    if tokens > language.context:
        raise BeyondLimits("tokens", tokens, language.context, "the model's context is the most")
    if tokens < read + 2:
        raise BeyondLimits(
            f"image tokens of {images} image{'s' if images > 1 else ''}",
            read,
            tokens - 2,
            "--max-tokens N counts the image tokens too",
        )
    return LimitsRecord(tokens=tokens, images=images, counts=counts, image_tokens=image_tokens)


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
    images, rows_of = limits.images, capacities(plan, limits)
    least = min(plan.tokens, limits.image_tokens)
    plan = plan.of_size(limits.image_tokens)
    usual = plan.of_size(least).counts(None, 1)
    kind, _, number = graph.partition(".")
    tokens = (1, min(limits.tokens, least + _TYPICAL_TEXT), limits.tokens)
    text = (1, min(limits.tokens, _TYPICAL_TEXT), limits.tokens)
    if kind in ("vision", "video"):
        count = _range(usual[0], limits.counts[0]) if plan.vision_drop else (1, 1, 1)
        of_image = _range(least, limits.image_tokens)
        return {"images": _range(1, images), "tokens": of_image, "texts": text}, {"keep": count}
    rows = plan.tokens * images
    if kind == "shrink":
        return {"images": _range(1, images), "rows": _range(least, rows)}, {}
    if kind == "raters":
        return {"tokens": tokens, "image_tokens": _range(least, rows), "raters": text}, {}
    if kind == "drop":
        at = int(number) - 1
        whole = plan.tokens_of_stages(limits.counts, 1)[at]
        typical = plan.tokens_of_stages(usual, 1)[at]
        drop = plan.decoder_drops[at]
        share = images if drop.budget == "all" else 1
        most = plan.in_decoder(limits.counts)[at] * share
        arriving = rows_of[at]
        of_drop = (1, min(arriving, typical + _TYPICAL_TEXT), arriving)
        sizes = {
            "tokens": of_drop,
            "groups": _range(1, images // share),
            "candidates": _range(typical, whole * share),
            "texts": text,
            "raters": text,
            "capacity": (arriving, arriving, arriving),
            "past": of_drop,
        }
        most_lost = whole * share
        return sizes, {
            "keep": _range(plan.in_decoder(usual)[at], most),
            "recycled": _range(typical, most_lost),
            "merged": _range(typical, most_lost),
        }
    capacity = rows_of[int(number)]
    usual_tokens = plan.tokens_of_stages(usual, 1)[int(number)] + _TYPICAL_TEXT
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
