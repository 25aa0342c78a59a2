"""How much memory a published model needs, from its dimensions alone."""

from __future__ import annotations

from dataclasses import dataclass

from ...samples.checkpoints.sizes import SHAPES, SIZES, Shape, Size

WEIGHTS: dict[str, float] = {"float32": 4, "float16": 2, "int8": 1 + 2 / 32, "int4": 0.5 + 2 / 32}
"""Bytes of one weight of the decoder's matrices: blocks of 32 share a float16 scale."""
TEXT_TOKENS = 576
"""Text in prompt and answer together."""
RUNTIME_BYTES = 10**9
"""What is left for the engine, activations and Python."""


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """A model's numbers of weights, and what its cache takes."""

    matrices: int
    """Weights of the decoder's matrices and head, which ``--weights`` makes smaller."""
    others: int
    """All other weights: tower, projector, embedding."""
    tied: int
    """Weights of a head that is the embedding table too, unless it is quantized."""
    kv_bytes: int
    """Of one token in float16."""
    image_tokens: int
    """As ``samples.checkpoints.sizes.Shape.image_tokens``."""

    def weight_bytes(self, weights: str) -> float:
        """Bytes of all weights; ``weights`` is a key of ``WEIGHTS``. With int8 and int4 what is no
        matrix is float16."""
        whole = weights.startswith("float")
        matrices = self.matrices - (self.tied if whole else 0)
        return matrices * WEIGHTS[weights] + self.others * (4 if weights == "float32" else 2)

    def cache_bytes(self, keep: float) -> float:
        """Bytes of the KV cache of the largest image, pruned before the decoder, and text."""
        return self.kv_bytes * (keep * self.image_tokens + TEXT_TOKENS)

    def needs(self, weights: str, keep: float) -> float:
        """Bytes in all."""
        return self.weight_bytes(weights) + self.cache_bytes(keep) + RUNTIME_BYTES

    def largest_keep(self, weights: str, room: float) -> float | None:
        """The largest keep for which ``room`` bytes suffice, at most 1; None: none does."""
        left = room - self.weight_bytes(weights) - RUNTIME_BYTES - self.cache_bytes(0)
        if left <= 0:
            return None
        return min(1.0, left / (self.kv_bytes * self.image_tokens))


def footprint(family: str, size: str) -> Footprint:
    """The footprint of a published model.

    Args:
        family: a key of ``samples.checkpoints.sizes.SIZES``.
        size: a key of its row.
    """
    dimensions, shape = SIZES[family][size], SHAPES[family]
    text = dimensions.text
    head_dim = text.width // text.heads
    own, shared = text.width * text.width, text.width * text.kv_heads * head_dim
    layer = 2 * own + 2 * shared + 3 * text.width * text.inner
    table = text.vocab * text.width
    return Footprint(
        matrices=text.layers * layer + table,
        others=table + _towers(shape, dimensions) + _projector(shape, dimensions),
        tied=table if text.tied else 0,
        kv_bytes=2 * 2 * text.layers * text.kv_heads * head_dim,
        image_tokens=shape.image_tokens,
    )


def _towers(shape: Shape, size: Size) -> int:
    """Weights of the vision towers."""
    tower = size.tower
    layer = 4 * tower.width**2 + (3 if shape.gated else 2) * tower.width * tower.inner
    return shape.towers * (tower.layers * layer + 3 * tower.patch**2 * tower.width)


def _projector(shape: Shape, size: Size) -> int:
    """Weights of two matrices from the tower's width to the decoder's."""
    width = size.tower.width * shape.group
    inner = width if shape.square else size.text.width
    return width * inner + inner * size.text.width
