"""The vision side at run time: images to kept image embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from ..bundle.contract import (
    IMAGE_EMBEDS,
    INDEX,
    KEEP,
    KEPT,
    PIXEL_VALUES,
    PROMPT_EMBEDS,
    SCORES,
    SHRINK,
    SHRUNKEN,
    VIDEO,
    VISION,
    VISION_SIDE,
    WEIGHT,
)
from ..bundle.manifest import Manifest
from ..bundle.plan import Plan
from ..engines.base import Buffer, Engine, Graph
from ..preprocessing.base import Medium, Resample
from .arrange import Arranged, arrange, by_entry


@dataclass(frozen=True, eq=False)
class VisionOutput:
    """What the vision graph made of some images."""

    media: tuple[Medium, ...]
    """The images."""
    embeds: tuple[Buffer, ...]
    """``(tiles, kept, row_width)`` each, on the engine's device; tile after tile."""
    resampled: tuple[Buffer, ...]
    """``(1, rows, row_width)`` each: tokens made of others (``Medium.resample``), image after
    image."""
    kept: tuple[np.ndarray, ...]
    """For each tile ``(kept,)`` int64: the token that each row stands for, in raster order where
    the method keeps that order; -1 for none."""
    scores: tuple[np.ndarray, ...] | None
    """For each tile ``(tokens,)`` float32; None without pruning."""

    def arranged(self) -> list[Arranged]:
        """What is left of each image, as the prompt reads it."""
        firsts = np.cumsum([0, *(len(kept) for kept in self.kept)])
        arranged, resampled = [], int(firsts[-1])
        for medium, tiles in self._tiles():
            first = int(firsts[tiles.start])
            arranged.append(arrange(medium, self.kept[tiles], first, resampled))
            resampled += 0 if medium.resample is None else len(medium.resample.index)
        return arranged

    @property
    def rows(self) -> tuple[Buffer, ...]:
        """All image embeddings, in the order that ``arranged`` counts them."""
        return (*self.embeds, *self.resampled)

    def image_scores(self) -> list[np.ndarray]:
        """Scores of each image in the order of its unpruned sequence."""
        assert self.scores is not None
        return [by_entry(medium, self.scores[tiles]) for medium, tiles in self._tiles()]

    def _tiles(self) -> Iterator[tuple[Medium, slice]]:
        first = 0
        for medium in self.media:
            yield medium, slice(first, first + len(medium.pixels))
            first += len(medium.pixels)


def vision_graphs(manifest: Manifest, load: Callable[[str], Graph]) -> dict[str, Graph]:
    """The graphs of ``Vision`` that a bundle has, loaded by name."""
    held = {record.name for record in manifest.graphs}
    return {name: load(name) for name in VISION_SIDE if name in held}


class Vision:
    """Runs the vision graphs.

    Args:
        engine: what runs them.
        plan: whether they select.
        width: of the rows that the language model reads.
        graphs: those of ``contract.VISION_SIDE`` that the model has, loaded by ``engine``.
    """

    def __init__(self, engine: Engine, plan: Plan, width: int, graphs: Mapping[str, Graph]) -> None:
        self._engine = engine
        self._plan = plan
        self._width = width
        self._graphs = graphs

    @property
    def reads_prompt(self) -> bool:
        """Whether the choice of tokens depends on the prompt's text."""
        return PROMPT_EMBEDS in self._graphs[VISION].inputs

    def graph_name(self, medium: Medium) -> str:
        """Name of the graph that it goes through."""
        return self._name(medium.kind)

    def __call__(
        self,
        media: Sequence[Medium],
        tile_counts: Sequence[int],
        prompt_embeds: np.ndarray | None = None,
    ) -> VisionOutput:
        """Run the towers over images, with selection and projector.

        Args:
            media: preprocessed images.
            tile_counts: for each of them how many tokens of a tile stay.
            prompt_embeds: ``(texts, width)`` float32, for a graph that reads the prompt.
        """
        embeds: list[Buffer] = []
        kept: list[np.ndarray] = []
        scores: list[np.ndarray] = []
        for run in _runs(media, tile_counts):
            part = self._run_tower(run, prompt_embeds)
            embeds.append(part[0])
            kept += list(part[1])
            scores += list(part[2])
        prunes = self._plan.vision_drop is not None
        return self.output(media, embeds, kept, scores if prunes else None)

    def output(
        self,
        media: Sequence[Medium],
        embeds: Sequence[Buffer],
        kept: Sequence[np.ndarray],
        scores: Sequence[np.ndarray] | None,
    ) -> VisionOutput:
        """What came out of the tower, with the tokens that are made of others.

        Args:
            media: the images.
            embeds: ``(tiles, kept, row_width)``; an image with ``resample`` has one of its own.
            kept: for each tile.
            scores: for each tile.
        """
        tiles = np.cumsum([0, *(len(medium.pixels) for medium in media)]).tolist()
        parts = np.cumsum([0, *(part.shape[0] for part in embeds)]).tolist()
        resampled = [
            self._shrink(embeds[parts.index(first)], medium.resample)
            for first, medium in zip(tiles, media, strict=False)
            if medium.resample is not None
        ]
        ranked = None if scores is None else tuple(scores)
        return VisionOutput(tuple(media), tuple(embeds), tuple(resampled), tuple(kept), ranked)

    def _shrink(self, embeds: Buffer, resample: Resample) -> Buffer:
        """Tokens ``(1, rows, row_width)`` made of others."""
        shrunken = self._engine.buffer((1, len(resample.index), self._width), "float32")
        inputs = {
            IMAGE_EMBEDS: embeds,
            INDEX: self._filled(resample.index),
            WEIGHT: self._filled(resample.weight),
        }
        self._graphs[SHRINK].bind(inputs, {SHRUNKEN: shrunken})()
        return shrunken

    def _name(self, kind: str) -> str:
        return VIDEO if kind == VIDEO and VIDEO in self._graphs else VISION

    def _run_tower(
        self, run: _TowerRun, prompt_embeds: np.ndarray | None
    ) -> tuple[Buffer, np.ndarray, np.ndarray]:
        """One run; embeddings, ``(tiles, kept)`` and ``(tiles, tokens)``."""
        engine, tiles = self._engine, len(run.pixels)
        graph, medium, count = self._graphs[self._name(run.kind)], run.medium, run.count
        bound = {PIXEL_VALUES: self._filled(run.pixels.astype(np.float32, copy=False))}
        for name, values in run.inputs.items():
            bound[name] = self._filled(values)
        rows = count + medium.lead
        embeds = engine.buffer((tiles, rows, self._width), "float32")
        if self._plan.vision_drop is None:
            graph.bind(bound, {IMAGE_EMBEDS: embeds})()
            whole = np.arange(-medium.lead, count).clip(min=-1)
            return embeds, np.tile(whole, (tiles, 1)), np.zeros((tiles, 0), np.float32)
        bound[KEEP] = self._filled(np.array([count], dtype=np.int64))
        if PROMPT_EMBEDS in graph.inputs and prompt_embeds is not None:
            bound[PROMPT_EMBEDS] = self._filled(prompt_embeds)
        kept = engine.buffer((tiles, rows), "int64")
        scores = engine.buffer((tiles, medium.tile_tokens), "float32")
        graph.bind(bound, {IMAGE_EMBEDS: embeds, KEPT: kept, SCORES: scores})()
        return embeds, kept.read().copy(), scores.read().copy()

    def _filled(self, values: np.ndarray) -> Buffer:
        buffer = self._engine.buffer(values.shape, values.dtype.name)
        buffer.write(values)
        return buffer


@dataclass(frozen=True, eq=False)
class _TowerRun:
    """Tiles that go through a tower at one go."""

    kind: str
    medium: Medium
    """One of those that they are of."""
    pixels: np.ndarray
    inputs: Mapping[str, np.ndarray]
    count: int
    """Tokens of a tile that stay."""


def _runs(media: Sequence[Medium], tile_counts: Sequence[int]) -> Iterator[_TowerRun]:
    """What goes through a tower at one go: all neighbouring tiles of one shape, or, where the
    patches of an image have inputs of their own, tile by tile."""
    for (kind, _, alone, count), group in groupby(
        zip(range(len(media)), media, tile_counts, strict=True), _together
    ):
        same = [medium for _, medium, _ in group]
        if alone is None or not same[0].inputs:
            pixels = np.concatenate([medium.pixels for medium in same])
            yield _TowerRun(kind, same[0], pixels, {}, count)
            continue
        for tile in range(len(same[0].pixels)):
            pixels = same[0].pixels[tile : tile + 1]
            yield _TowerRun(kind, same[0], pixels, same[0].inputs, count)


def _together(item: tuple[int, Medium, int]) -> tuple[str, tuple[int, ...], int | None, int]:
    """Neighbours of which this is the same go through the tower together."""
    number, medium, count = item
    return medium.kind, medium.pixels.shape[1:], _alone(number, medium), count


def _alone(number: int, medium: Medium) -> int | None:
    return number if medium.inputs or medium.resample is not None else None
