"""The KV cache: one part for each language stage, as long as what that stage reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle.contract import LANGUAGE_KIND, PARTS, WRITE_INDEX, past, present, whole
from ..bundle.manifest import LanguageRecord
from ..bundle.plan import Stage
from ..engines.base import Buffer, Engine, Graph, Run


class StageCache:
    """Keys and values of a stage's layers, allocated once.

    A graph either updates the cache in place, ``(1, kv_heads, capacity, head_dim)``, or reads the
    filled rows and gives out the new ones, ``(1, rows, kv_heads, head_dim)``, which then stand
    behind those: the target says which.

    Args:
        engine: whose memory it is.
        language: sizes of the decoder.
        stage: the language stage.
        capacity: most tokens that it will hold.
        appended: whether graphs give out new rows.
    """

    def __init__(
        self,
        engine: Engine,
        language: LanguageRecord,
        stage: Stage,
        capacity: int,
        appended: bool,
    ) -> None:
        self.engine = engine
        self.capacity = capacity
        self.appended = appended
        self.length = 0
        """Tokens that it holds."""
        sizes = {**language.sizes, "batch": 1, "capacity": capacity, "past": capacity}
        self._buffers: dict[tuple[int, str], Buffer] = {}
        for layer in range(stage.layers):
            for part in PARTS:
                row = LANGUAGE_KIND.tensor(past("{layer}", part))
                tensor = row.spec(sizes, language.dtype, layer, appended)
                buffer = engine.buffer(whole(tensor.shape), tensor.dtype)
                # The standard operator reads unfilled rows before it masks them: no stray NaN.
                buffer.write(np.zeros((), np.float32))
                self._buffers[layer, part] = buffer
        self.nbytes = sum(b.dtype.itemsize * int(np.prod(b.shape)) for b in self._buffers.values())
        self._last = stage.layers - 1

    @property
    def last_keys(self) -> Buffer:
        """Key cache of the stage's last layer, as graphs read it."""
        return self.inputs()[past(self._last, PARTS[0])]

    def inputs(self) -> dict[str, Buffer]:
        """What a graph reads."""
        return {
            past(*name): buffer.rows(0, self.length) if self.appended else buffer
            for name, buffer in self._buffers.items()
        }

    def outputs(self, tokens: int) -> dict[str, Buffer]:
        """What a graph writes for ``tokens`` more: where it updates, the same memory."""
        end = self.length + tokens
        return {
            present(*name): buffer.rows(self.length, end) if self.appended else buffer
            for name, buffer in self._buffers.items()
        }


class CachedRun:
    """A language graph bound to buffers and to a stage's cache, for a number of new tokens.

    Args:
        graph: the graph.
        cache: of its stage.
        tokens: new tokens that each call adds.
        inputs: all other inputs.
        outputs: all other outputs.
    """

    def __init__(
        self,
        graph: Graph,
        cache: StageCache,
        tokens: int,
        inputs: Mapping[str, Buffer],
        outputs: Mapping[str, Buffer],
    ) -> None:
        self._graph, self._cache, self._tokens = graph, cache, tokens
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        self._write_index: Buffer | None = None
        if WRITE_INDEX in graph.inputs:
            self._write_index = cache.engine.buffer((1,), "int64")
            self._inputs[WRITE_INDEX] = self._write_index
        self._bound = None if cache.appended else self._bind()

    def _bind(self) -> Run:
        cache = self._cache
        return self._graph.bind(
            {**self._inputs, **cache.inputs()}, {**self._outputs, **cache.outputs(self._tokens)}
        )

    def __call__(self) -> None:
        """Run for the next tokens."""
        cache = self._cache
        if self._write_index is not None:
            self._write_index.write(np.array([cache.length]))
        # Where rows are appended, every call reads and writes other rows.
        run = self._bound or self._bind()
        run()
        cache.length += self._tokens


@dataclass(frozen=True)
class Place:
    """A point of a conversation that its cache can go back to."""

    lengths: tuple[int, ...]
    """Tokens that each stage held."""
    position: int
    """Number of the next token."""


class KVCache:
    """The caches of all stages of one conversation.

    Args:
        engine: whose memory it is.
        language: sizes of the decoder.
        stages: the language stages.
        capacities: most tokens that each will hold.
        appended: as for ``StageCache``.
    """

    def __init__(
        self,
        engine: Engine,
        language: LanguageRecord,
        stages: Sequence[Stage],
        capacities: Sequence[int],
        appended: bool = False,
    ) -> None:
        self.stages = [
            StageCache(engine, language, stage, capacity, appended)
            for stage, capacity in zip(stages, capacities, strict=True)
        ]
        self.position = 0
        """Number of the next token, where tokens are not numbered stage by stage."""

    def place(self, back: int = 0) -> Place:
        """Where it is, or was before its last ``back`` tokens, none of which an image's."""
        lengths = tuple(stage.length - back for stage in self.stages)
        return Place(lengths, self.position - back)

    def rewind(self, place: Place) -> None:
        """Forget what was read since; the memory is written again."""
        for stage, length in zip(self.stages, place.lengths, strict=True):
            stage.length = length
        self.position = place.position

    @property
    def length(self) -> int:
        """Tokens in the first stage: the conversation as the decoder read it."""
        return self.stages[0].length

    @property
    def nbytes(self) -> int:
        """Size of all caches."""
        return sum(stage.nbytes for stage in self.stages)
