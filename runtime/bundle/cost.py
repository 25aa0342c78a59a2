"""What a plan costs: tokens, FLOPs and KV bytes of every language stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .manifest import LanguageRecord
from .plan import Extent, Plan

FLOPS_FORMULA = "per layer 2(2nda + 2ndk + 2nna + 3ndm)"
"""A multiply-add counts twice; n tokens, d width, a = heads x head size, k = KV heads x head size,
m inner width of the gated MLP: query and output, key and value, the two products of attention (over
the full square, as the papers count), the MLP. Embedding, norms and head are left out."""


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """One language stage in the prefill of a turn."""

    first: int
    """First layer."""
    stop: int
    """One past the last layer."""
    image_tokens: int
    """Image tokens that its layers read, merged ones included."""
    tokens: int
    """All tokens that its layers read."""
    flops: float
    """Of the prefill, by ``FLOPS_FORMULA``."""
    kv_bytes: int
    """Keys and values of the tokens read, and of the places for new ones, if told."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """All stages."""

    stages: tuple[StageCost, ...]
    average: float
    """Image tokens that a layer reads, mean over the layers, all images together."""
    flops: float
    kv_bytes: int


def layer_flops(language: LanguageRecord, tokens: int) -> float:
    """FLOPs of one layer over ``tokens`` new tokens without a past, by ``FLOPS_FORMULA``."""
    n, d, m = tokens, language.width, language.inner
    a, k = language.heads * language.head_dim, language.kv_heads * language.head_dim
    return 2.0 * (2 * n * d * a + 2 * n * d * k + 2 * n * n * a + 3 * n * d * m)


def cost(
    plan: Plan,
    language: LanguageRecord,
    counts: Sequence[int],
    images: int | Extent,
    text: int = 0,
    new: int = 0,
) -> Cost:
    """Cost of the prefill of one turn in an empty cache.

    Args:
        plan: stages and drops.
        language: sizes.
        counts: image tokens left after each drop, as from ``Plan.counts``.
        images: images of the turn, as for ``Plan.counts``.
        text: text tokens of the turn.
        new: places in the cache for generated tokens.
    """
    number = images if isinstance(images, int) else images.images
    per_layer = language.kv_bytes_per_token() // language.layers
    stages = tuple(
        StageCost(
            first=stage.first,
            stop=stage.stop,
            image_tokens=tokens,
            tokens=tokens + text,
            flops=stage.layers * layer_flops(language, tokens + text),
            kv_bytes=stage.layers * per_layer * (tokens + text + new),
        )
        for stage, tokens in zip(plan.stages, plan.tokens_of_stages(counts, images), strict=True)
    )
    return Cost(
        stages=stages,
        average=plan.average(counts, images) * number,
        flops=sum(stage.flops for stage in stages),
        kv_bytes=sum(stage.kv_bytes for stage in stages),
    )
