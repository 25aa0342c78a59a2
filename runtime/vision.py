"""The vision side at run time: images to kept image embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .bundle import Bundle
from .engines.base import Buffer, Engine, Graph


@dataclass(frozen=True)
class Seen:
    """What the vision graph made of some images."""

    embeds: Buffer
    """``(images, kept, width)``, on the engine's device."""
    kept: np.ndarray
    """``(images, kept)`` int64, ascending patch indices in raster order."""
    scores: np.ndarray | None
    """``(images, tokens)`` float32; None without pruning."""


class Vision:
    """Runs the vision graph.

    Args:
        engine: what runs it.
        bundle: where plan and sizes come from.
        graph: the vision graph, loaded by ``engine``.
    """

    def __init__(self, engine: Engine, bundle: Bundle, graph: Graph) -> None:
        self._engine = engine
        self._plan = bundle.manifest.plan
        self._width = bundle.manifest.language.width
        self._graph = graph

    def __call__(self, pixel_values: np.ndarray, keep: int) -> Seen:
        """Look at images.

        Args:
            pixel_values: ``(images, 3, height, width)`` float32.
            keep: tokens kept of each image.
        """
        images, engine = len(pixel_values), self._engine
        pixels = engine.buffer(pixel_values.shape, "float32")
        pixels.write(pixel_values)
        embeds = engine.buffer((images, keep, self._width), "float32")
        if not self._plan.prunes:
            self._graph.bind({"pixel_values": pixels}, {"image_embeds": embeds})()
            return Seen(embeds, np.tile(np.arange(keep), (images, 1)), None)
        count = engine.buffer((1,), "int64")
        count.write(np.array([keep], dtype=np.int64))
        kept = engine.buffer((images, keep), "int64")
        scores = engine.buffer((images, self._plan.tokens), "float32")
        self._graph.bind(
            {"pixel_values": pixels, "keep": count},
            {"image_embeds": embeds, "kept": kept, "scores": scores},
        )()
        return Seen(embeds, kept.read().copy(), scores.read().copy())
