"""The language side at run time: KV cache, prefill, decode."""

from __future__ import annotations

import numpy as np

from ..errors import BundleCorrupted
from .bundle import Bundle
from .engines.base import Buffer, Engine, Graph, Run


class KVCache:
    """Keys and values of every layer, allocated once and updated in place.

    Args:
        capacity: most tokens it will hold.
    """

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        """Tokens that it holds."""
        language = decoder.language
        shape = (1, language.kv_heads, capacity, language.head_dim)
        self.inputs: dict[str, Buffer] = {}
        self.outputs: dict[str, Buffer] = {}
        for layer in range(language.layers):
            for kind in ("key", "value"):
                # The same memory is read as past and written as present.
                buffer = decoder.engine.buffer(shape, "float32")
                # The standard operator reads unfilled rows before it masks them: no stray NaN.
                buffer.write(np.zeros((), np.float32))
                self.inputs[f"past_key_values.{layer}.{kind}"] = buffer
                self.outputs[f"present.{layer}.{kind}"] = buffer
        self.nbytes = sum(b.dtype.itemsize * int(np.prod(b.shape)) for b in self.inputs.values())


class Decoder:
    """Runs the language graph over a cache.

    Args:
        engine: what runs it.
        bundle: where sizes and the embedding table come from.
        graph: the language graph, loaded by ``engine``.
    """

    def __init__(self, engine: Engine, bundle: Bundle, graph: Graph) -> None:
        self.engine = engine
        self.language = bundle.manifest.language
        self._graph = graph
        self._table = bundle.embedding_table()

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Embedding rows ``(n, width)`` float32 of token ids ``(n,)``.

        Raises:
            BundleCorrupted: an id that the model does not have.
        """
        try:
            rows: np.ndarray = np.asarray(self._table[tokens], dtype=np.float32)
        except IndexError:
            raise BundleCorrupted(
                "tokenizer.json",
                f"gives token {tokens.max()}, but the model knows {self.language.vocab}",
            ) from None
        return rows

    def prefill(self, embeds: Buffer, cache: KVCache) -> np.ndarray:
        """Append ``embeds (1, tokens, width)`` to the cache.

        Returns:
            Logits ``(vocab,)`` after the last token.
        """
        step = _Step(self, cache, embeds)
        return step.run(embeds.shape[1])

    def decode(self, cache: KVCache) -> DecodeLoop:
        """A loop that appends one token at a time to the cache."""
        return DecodeLoop(self, cache)

    def _bind(self, inputs: dict[str, Buffer], outputs: dict[str, Buffer], cache: KVCache) -> Run:
        return self._graph.bind({**inputs, **cache.inputs}, {**outputs, **cache.outputs})


class _Step:
    """One run of the graph bound to buffers for a number of new tokens."""

    def __init__(self, decoder: Decoder, cache: KVCache, embeds: Buffer) -> None:
        tokens = embeds.shape[1]
        engine = decoder.engine
        self._cache = cache
        self._positions = engine.buffer((1, tokens), "int64")
        self._write_index = engine.buffer((1,), "int64")
        self._logits = engine.buffer((1, decoder.language.vocab), "float32")
        self._run = decoder._bind(
            {
                "inputs_embeds": embeds,
                "position_ids": self._positions,
                "write_index": self._write_index,
            },
            {"logits": self._logits},
            cache,
        )

    def run(self, tokens: int) -> np.ndarray:
        """Run for the next ``tokens`` places of the cache; logits ``(vocab,)`` of the last."""
        cache = self._cache
        start = cache.length
        # Compact positions: a token's position is its place in the cache.
        self._positions.write(np.arange(start, start + tokens, dtype=np.int64)[None])
        self._write_index.write(np.array([start], dtype=np.int64))
        self._run()
        cache.length = start + tokens
        logits: np.ndarray = self._logits.read()[0]
        return logits


class DecodeLoop:
    """Decode bound once: a step writes one embedding row and reads one row of logits."""

    def __init__(self, decoder: Decoder, cache: KVCache) -> None:
        self._decoder = decoder
        self._embeds = decoder.engine.buffer((1, 1, decoder.language.width), "float32")
        self._step = _Step(decoder, cache, self._embeds)

    def step(self, token: int) -> np.ndarray:
        """Append ``token`` to the cache; logits ``(vocab,)`` for the one after it."""
        self._embeds.write(self._decoder.embed(np.array([token]))[None])
        return self._step.run(1)
