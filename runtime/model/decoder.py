"""The language side at run time: a chain of stages, with drops between, over a KV cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import BundleCorrupted, ContextTooLong
from ..bundle.contract import (
    BEFORE_STAGES,
    DROP_KIND,
    GIVEN_SCORES,
    GUIDE_KIND,
    HIDDEN_STATES,
    HIDDEN_STATES_OUT,
    IMAGE_COLUMNS,
    IMAGE_ROWS,
    INPUTS_EMBEDS,
    KEEP,
    KEPT,
    KEY_CACHE,
    LANGUAGE_KIND,
    LOGIT_ROWS,
    LOGITS,
    MERGED,
    POSITION_IDS,
    RATER_ROWS,
    RATER_WEIGHTS,
    RECYCLED,
    SCORE_ROWS,
    SCORES,
    TEXT_ROWS,
    WRITE_INDEX,
    GraphKind,
    drop_graph,
    language_graph,
    whole,
)
from ..bundle.manifest import LanguageRecord
from ..bundle.plan import Drop, Plan, recycled
from ..engines.base import Buffer, Engine, Graph
from ..files.tensorfile import float32_of
from .cache import CachedRun, KVCache, StageCache
from .embedding import embedding_rows
from .marks import Mark, unmarked
from .score_inputs import ScoreInputs
from .token_placement import SplicedPrompt, TokenPlacement


@dataclass(frozen=True, eq=False)
class DropOutput:
    """What one drop inside the decoder did."""

    drop: Drop
    before: TokenPlacement
    after: TokenPlacement
    scores: np.ndarray | None
    """``(groups, candidates)`` float32 of the image tokens that arrived; None if all stayed."""


@dataclass(frozen=True, eq=False)
class PrefillOutput:
    """What reading a turn gave."""

    logits: np.ndarray
    """``(vocab,)`` after the last token."""
    drops: tuple[DropOutput, ...]


class Decoder:
    """Runs the language graphs.

    Args:
        engine: what runs them.
        plan: stages, drops, positions.
        language: sizes.
        table: embedding table ``(vocab, width)``.
        graphs: the graphs of the language side by name, loaded by ``engine``.
        capacities: rows that each stage's cache has, where the graphs take no other number.
        separator: row ``(width,)`` between image tokens, of models that have one.
    """

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        language: LanguageRecord,
        table: np.ndarray,
        graphs: Mapping[str, Graph],
        capacities: Sequence[int] | None = None,
        separator: np.ndarray | None = None,
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.language = language
        self._table = table
        self.stages = plan.stages
        self.graphs = [graphs[language_graph(number)] for number in range(len(self.stages))]
        """The language graphs, in order."""
        self.kind = LANGUAGE_KIND if plan.guide is None else GUIDE_KIND
        self._drops = [graphs[drop_graph(number)] for number in range(1, len(self.stages))]
        self._before = {kind: graphs[kind.name] for kind in BEFORE_STAGES if kind.name in graphs}
        self._capacities = capacities
        self._separator = separator

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Embedding rows ``(n, width)`` float32 of token ids ``(n,)``.

        Raises:
            BundleCorrupted: an id that the model does not have.
        """
        return embedding_rows(self._table, tokens)

    def text_rows(self, tokens: np.ndarray) -> np.ndarray:
        """What the first stage reads of token ids ``(n,)``: ``(n, row_width)`` float32."""
        return self._without_planes(self.embed(tokens))

    def _without_planes(self, rows: np.ndarray) -> np.ndarray:
        """Rows ``(n, width)`` with zeros in the place of planes, which only image tokens have."""
        more = self.row_width - rows.shape[1]
        return np.pad(rows, ((0, 0), (0, more))) if more else rows

    @property
    def row_width(self) -> int:
        """Of the rows that the first stage reads."""
        return self.language.row_width(0)

    @property
    def known_tokens(self) -> int:
        """Tokens that have an embedding."""
        return len(self._table)

    @property
    def separator(self) -> np.ndarray:
        """Row ``(row_width,)`` float32 between image tokens.

        Raises:
            BundleCorrupted: the model has none.
        """
        if self._separator is None:
            raise BundleCorrupted(
                "manifest.json", "separates image tokens, but names no embedding for the separator"
            )
        (row,) = self._without_planes(float32_of(self._separator)[None])
        return np.asarray(row)

    def cache(self, capacities: Sequence[int] | int) -> KVCache:
        """A new cache; one capacity for each stage, or one for all.

        Raises:
            ContextTooLong: the graphs were built for less.
        """
        each = self.capacities(capacities)
        appended = WRITE_INDEX not in self.graphs[0].inputs
        return KVCache(self.engine, self.language, self.stages, each, appended)

    def capacities(self, needed: Sequence[int] | int) -> tuple[int, ...]:
        """Rows that the cache of each stage gets; arguments and errors as for ``cache``."""
        each = (needed,) * len(self.stages) if isinstance(needed, int) else tuple(needed)
        if self._capacities is None:
            return each
        for rows, room in zip(each, self._capacities, strict=True):
            if rows > room:
                raise ContextTooLong(rows, room, "the built engine (vtp build --max-tokens)")
        return tuple(self._capacities)

    def prefill(
        self,
        prompt: SplicedPrompt,
        cache: KVCache,
        counts: Sequence[int] | None = None,
        scores: Mapping[str, Sequence[np.ndarray]] | None = None,
        mark: Mark = unmarked,
    ) -> PrefillOutput:
        """Append a turn to the cache.

        Args:
            prompt: the turn.
            cache: what was read before.
            counts: image tokens left after each drop inside the decoder, over all images of the
                turn; None drops none.
            scores: for each image ``(n,)`` float32, in the order of its unpruned sequence,
                for drops that are ranked from elsewhere, by the name of the score.
            mark: told of every graph that has run.
        """
        placement, hidden = prompt.placement, prompt.embeds
        computed = self._run_before(prompt, mark) if counts else {}
        dropped: list[DropOutput] = []
        outputs: dict[str, Buffer] = {}
        for number, stage in enumerate(cache.stages):
            if number:
                drop = self.plan.decoder_drops[number - 1]
                count = len(placement.image_rows) if counts is None else counts[number - 1]
                before = cache.stages[number - 1]
                reads = ScoreInputs(outputs, before, placement, scores or {}, computed)
                hidden, done = self._drop(number, drop, count, hidden, reads, stage.length)
                dropped.append(done)
                placement = done.after
                mark(drop_graph(number))
            step = _StageRun(self, number, stage, hidden, placement.tokens)
            outputs = step.run(placement.positions)
            hidden = outputs.get(HIDDEN_STATES_OUT, hidden)
            mark(f"prefill.{number}")
        cache.position = prompt.next_position
        return PrefillOutput(outputs[LOGITS].read()[-1], tuple(dropped))

    def decode(self, cache: KVCache) -> DecodeLoop:
        """A loop that appends one token at a time to the cache."""
        return DecodeLoop(self, cache)

    def _run_before(self, prompt: SplicedPrompt, mark: Mark) -> dict[str, np.ndarray]:
        """What the graphs before the stages put out, by name; nothing without an image or text
        behind it."""
        images = prompt.placement.image_rows
        texts = prompt.placement.rows_after_images if len(images) else images
        if not len(texts):
            return {}
        sizes = {"tokens": prompt.placement.tokens, "image_tokens": len(images)}
        found: dict[str, np.ndarray] = {}
        for kind, graph in self._before.items():
            inputs = {
                INPUTS_EMBEDS: prompt.embeds,
                IMAGE_ROWS: self.filled(images),
                RATER_ROWS: self.filled(texts),
            }
            outputs = {
                tensor.name: self.buffer(kind, tensor.name, **sizes, raters=len(texts))
                for tensor in kind.outputs
            }
            graph.bind({name: inputs[name] for name in graph.inputs}, outputs)()
            found |= {name: buffer.read().copy() for name, buffer in outputs.items()}
            mark(kind.name)
        return found

    def buffer(self, kind: GraphKind, name: str, **sizes: int) -> Buffer:
        """Memory for an input or output of a graph, of one sequence.

        Args:
            kind: of the graph.
            name: of the tensor.
            sizes: of the dimensions that the model does not fix.
        """
        tensor = kind.tensor(name).spec({**self.language.sizes, "batch": 1, **sizes})
        return self.engine.buffer(whole(tensor.shape), tensor.dtype)

    def _drop(
        self, number: int, drop: Drop, count: int, hidden: Buffer, reads: ScoreInputs, start: int
    ) -> tuple[Buffer, DropOutput]:
        """Drop before stage ``number``, whose cache holds ``start`` tokens."""
        placement = reads.placement
        arriving = len(placement.image_rows)
        renumber = start if self.plan.positions == "compact-per-stage" else None
        if count >= arriving:
            numbers = placement.positions
            if renumber is not None:
                numbers = placement.renumbered(renumber, placement.tokens)
            return hidden, DropOutput(drop, placement, replace(placement, positions=numbers), None)
        groups = placement.groups(drop.budget)
        keep, merged = count // groups, drop.merged(arriving - count)
        inputs = {
            HIDDEN_STATES: hidden,
            IMAGE_ROWS: self.filled(placement.image_rows.reshape(groups, -1)),
            TEXT_ROWS: self.filled(placement.text_rows),
            KEEP: self.filled(np.array([keep])),
        }
        if drop.recycle is not None:
            taking = recycled(drop.recycle, arriving - count)
            inputs[RECYCLED] = self.filled(np.array([taking]))
            inputs[MERGED] = self.filled(np.array([merged]))
        graph = self._drops[number - 1]
        for name in graph.inputs:
            if name not in inputs:
                inputs[name] = self._read(name, reads, drop, groups)
        sizes = {
            "left": placement.tokens - arriving + count + merged,
            "groups": groups,
            "candidates": arriving // groups,
            "keep": keep,
            "row_width": self.language.row_width(drop.layer),
        }
        outputs = {
            tensor.name: self.buffer(DROP_KIND, tensor.name, **sizes)
            for tensor in DROP_KIND.outputs
        }
        graph.bind(inputs, outputs)()
        after = placement.after_drop(outputs[KEPT].read(), merged, renumber)
        scores = outputs[SCORES].read().copy()
        return outputs[HIDDEN_STATES_OUT], DropOutput(drop, placement, after, scores)

    def _read(self, name: str, reads: ScoreInputs, drop: Drop, groups: int) -> Buffer:
        """An input of a drop graph that its score asks for."""
        if name == KEY_CACHE:
            return reads.cache.last_keys
        if name in reads.outputs:  # of the stage before
            return reads.outputs[name]
        if name in reads.computed:
            return self.filled(reads.computed[name])
        placement = reads.placement
        values: dict[str, Callable[[], np.ndarray]] = {
            POSITION_IDS: lambda: self.numbers(placement.positions),
            # The stage has run: its cache holds this prefill already.
            WRITE_INDEX: lambda: np.array([reads.cache.length - placement.tokens]),
            RATER_ROWS: lambda: placement.rows_after_images,
            # Without an image to rate, all rate.
            RATER_WEIGHTS: lambda: np.ones(len(placement.rows_after_images), np.float32),
            GIVEN_SCORES: lambda: reads.external_scores(drop.score, groups),
        }
        return self.filled(values[name]())

    def numbered(self, tokens: int) -> tuple[int, ...]:
        """Shape of the position ids of one sequence, as the graphs take them."""
        row = LANGUAGE_KIND.tensor(POSITION_IDS)
        return whole(row.spec({**self.language.sizes, "batch": 1, "tokens": tokens}).shape)

    def numbers(self, positions: np.ndarray) -> np.ndarray:
        """``(axes, tokens)`` in that shape."""
        return positions.reshape(self.numbered(positions.shape[1]))

    def same(self, positions: np.ndarray) -> np.ndarray:
        """``(tokens,)`` for every axis: ``(axes, tokens)``."""
        return np.tile(positions, (self.language.position_axes, 1))

    def filled(self, values: np.ndarray) -> Buffer:
        """A buffer with these values, as int64 or float32."""
        kind = "float32" if values.dtype.kind == "f" else "int64"
        buffer = self.engine.buffer(values.shape, kind)
        buffer.write(values)
        return buffer


class _StageRun:
    """One language graph bound to buffers for a number of new tokens."""

    def __init__(
        self, decoder: Decoder, number: int, cache: StageCache, hidden: Buffer, tokens: int
    ) -> None:
        self._decoder = decoder
        graph = decoder.graphs[number]
        self._positions = decoder.buffer(decoder.kind, POSITION_IDS, tokens=tokens)
        sizes = {
            "tokens": tokens,
            "answers": 1,
            "columns": 1,
            "row_width_out": decoder.language.row_width(decoder.stages[number].stop),
        }
        self.outputs = {
            tensor.name: decoder.buffer(decoder.kind, tensor.name, **sizes)
            for tensor in decoder.kind.outputs
            if tensor.name in graph.outputs
        }
        inputs = {
            INPUTS_EMBEDS if number == 0 else HIDDEN_STATES: hidden,
            POSITION_IDS: self._positions,
        }
        # A guide's graph, asked for an answer alone.
        for name, value in ((SCORE_ROWS, 0), (IMAGE_COLUMNS, 0), (LOGIT_ROWS, tokens - 1)):
            if name in graph.inputs:
                inputs[name] = decoder.filled(np.array([value]))
        self._run = CachedRun(graph, cache, tokens, inputs, self.outputs)

    def run(self, positions: np.ndarray) -> dict[str, Buffer]:
        """Run for the next ``n`` places of the cache, ``positions (axes, n)``; returns the
        outputs."""
        self._positions.write(self._decoder.numbers(positions))
        self._run()
        return self.outputs


class DecodeLoop:
    """Decode bound once: a step writes one embedding row and reads one row of logits."""

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self._decoder = decoder
        self._cache = cache
        self._embeds = decoder.buffer(
            decoder.kind, INPUTS_EMBEDS, tokens=1, row_width=decoder.row_width
        )
        self._per_stage = decoder.plan.positions == "compact-per-stage"
        self._steps: list[_StageRun] = []
        hidden = self._embeds
        for number, stage in enumerate(cache.stages):
            step = _StageRun(decoder, number, stage, hidden, 1)
            self._steps.append(step)
            hidden = step.outputs.get(HIDDEN_STATES_OUT, hidden)

    def step(self, token: int) -> np.ndarray:
        """Append ``token`` to the cache; logits ``(vocab,)`` for the one after it."""
        cache = self._cache
        self._embeds.write(self._decoder.text_rows(np.array([token]))[None])
        for step, stage in zip(self._steps, cache.stages, strict=True):
            number = stage.length if self._per_stage else cache.position
            outputs = step.run(self._decoder.same(np.array([number])))
        cache.position += 1
        logits: np.ndarray = outputs[LOGITS].read()[0]
        return logits
