"""The vision side at run time: images to kept image embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .engines.base import Buffer, Engine, Graph
from .plan import Plan


@dataclass(frozen=True)
class Seen:
    """What the vision graph made of some images."""

    embeds: Buffer
    """``(images, kept, width)``, on the engine's device."""
    kept: np.ndarray
    """``(images, kept)`` int64: the patch that each token stands for, in raster order where the
    method keeps that order; -1 for none."""
    scores: np.ndarray | None
    """``(images, tokens)`` float32; None without pruning."""


class Vision:
    """Runs the vision graph.

    Args:
        engine: what runs it.
        plan: whether the graph selects.
        width: of the language model.
        graph: the vision graph, loaded by ``engine``.
    """

    def __init__(self, engine: Engine, plan: Plan, width: int, graph: Graph) -> None:
        self._engine = engine
        self._plan = plan
        self._width = width
        self._graph = graph

    @property
    def reads_prompt(self) -> bool:
        """Whether the choice of tokens depends on the prompt's text."""
        return "prompt_embeds" in self._graph.inputs

    def __call__(
        self, pixel_values: np.ndarray, keep: int, prompt_embeds: np.ndarray | None = None
    ) -> Seen:
        """Look at images.

        Args:
            pixel_values: ``(images, 3, height, width)`` float32.
            keep: tokens kept of each image.
            prompt_embeds: ``(texts, width)`` float32, for a graph that reads the prompt.
        """
        images, engine = len(pixel_values), self._engine
        pixels = engine.buffer(pixel_values.shape, "float32")
        pixels.write(pixel_values)
        embeds = engine.buffer((images, keep, self._width), "float32")
        if self._plan.vision_drop is None:
            self._graph.bind({"pixel_values": pixels}, {"image_embeds": embeds})()
            return Seen(embeds, np.tile(np.arange(keep), (images, 1)), None)
        count = engine.buffer((1,), "int64")
        count.write(np.array([keep], dtype=np.int64))
        kept = engine.buffer((images, keep), "int64")
        scores = engine.buffer((images, self._plan.tokens), "float32")
        inputs = {"pixel_values": pixels, "keep": count}
        if self.reads_prompt and prompt_embeds is not None:
            inputs["prompt_embeds"] = engine.buffer(prompt_embeds.shape, "float32")
            inputs["prompt_embeds"].write(prompt_embeds)
        self._graph.bind(
            inputs,
            {"image_embeds": embeds, "kept": kept, "scores": scores},
        )()
        return Seen(embeds, kept.read().copy(), scores.read().copy())
