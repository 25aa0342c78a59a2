"""An answer that is being generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

from .decoder import KVCache
from .loaded import LoadedBundle
from .result import Result, Timings
from .sampling import Sampler
from .vision import Seen


@dataclass
class Memory:
    """What the next turn of a conversation has to know of the last answer."""

    tokens: list[int] = field(default_factory=list)
    """Its tokens."""
    pending: list[int] = field(default_factory=list)
    """Its last token, which is not in the cache yet; none if it was an end token."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question that has been read into the cache."""

    first: int
    """First token of the answer."""
    limit: int
    """Most tokens of the answer."""
    seen: Seen | None
    """What the vision graph made of this turn's images."""
    images: int
    read: int
    """Tokens read in prefill."""
    preprocess_ms: float
    vision_ms: float
    prefill_ms: float
    ttft_ms: float


class Answer(Iterator[str]):
    """Iterate for the text as it comes, then read ``result``.

    Stopping early is allowed: a conversation continues from what was generated.
    """

    def __init__(
        self, loaded: LoadedBundle, cache: KVCache, sampler: Sampler, turn: Turn, memory: Memory
    ) -> None:
        self._loaded = loaded
        self._cache = cache
        self._sampler = sampler
        self._turn = turn
        self._memory = memory
        self._eos = loaded.bundle.manifest.generation.eos
        self._tokens = memory.tokens = [turn.first]
        self._decode_ms = 0.0
        self._result: Result | None = None
        self._pieces = self._generate()

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str:
        return next(self._pieces)

    def finish(self) -> Result:
        """Generate the rest and return the result."""
        for _ in self:
            pass
        return self.result

    @property
    def result(self) -> Result:
        """The answer so far; whole once iteration has ended."""
        return self._result or self._make_result()

    def _generate(self) -> Iterator[str]:
        text = self._loaded.text.stream()
        loop = self._loaded.decoder.decode(self._cache) if self._turn.limit > 1 else None
        token = self._turn.first
        while True:
            self._memory.pending = [] if token in self._eos else [token]
            piece = text.step(token)
            if piece:
                yield piece
            if token in self._eos or len(self._tokens) >= self._turn.limit or loop is None:
                break
            started = perf_counter()
            token = self._sampler(loop.step(token))
            self._decode_ms += (perf_counter() - started) * 1e3
            self._tokens.append(token)
        self._result = self._make_result()

    def _make_result(self) -> Result:
        turn, seen = self._turn, self._turn.seen
        kept = seen.embeds.shape[1] if seen else 0
        return Result(
            text=self._loaded.text.decode(self._tokens),
            tokens=tuple(self._tokens),
            finished="eos" if self._tokens[-1] in self._eos else "length",
            kept=tuple(seen.kept) if seen else (),
            scores=tuple(seen.scores) if seen and seen.scores is not None else (),
            prompt_tokens=turn.read,
            image_tokens=kept * turn.images,
            image_tokens_before=self._loaded.bundle.manifest.plan.tokens * turn.images,
            cache_tokens=self._cache.length,
            cache_bytes=self._cache.nbytes,
            timings=Timings(
                preprocess_ms=turn.preprocess_ms,
                vision_ms=turn.vision_ms,
                prefill_ms=turn.prefill_ms,
                ttft_ms=turn.ttft_ms,
                decode_ms=self._decode_ms,
                decoded=len(self._tokens) - 1,
            ),
        )
