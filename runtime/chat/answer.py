"""An answer that is being generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

from ..bundle.cost import Cost
from ..bundle.plan import Extent
from ..model.cache import KVCache, Place
from ..model.decoder import Prefilled
from ..model.layout import Layout
from ..model.loaded import LoadedBundle
from ..model.marks import Mark, unmarked
from ..model.sampling import Sampler
from ..model.vision import Seen
from .guide import Guidance, Guide
from .result import GuideResult, Result, StageResult, Timings


@dataclass
class Memory:
    """What the next turn of a conversation has to know of the last answer."""

    tokens: list[int] = field(default_factory=list)
    """Its tokens."""
    pending: list[int] = field(default_factory=list)
    """Its last token, which is not in the cache yet; none if it was an end token."""
    asked: Asked | None = None
    """Where its question ends, of a model that reads answers again (``PromptLayout.answered``)."""


@dataclass(frozen=True)
class Asked:
    """The end of a question: what is behind it is read again with the next turn."""

    place: Place
    """Of the cache."""
    before: str
    """Text of the turn up to there."""
    rest: str
    """What is left of the question."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A question that has been read into the cache."""

    first: int
    """First token of the answer."""
    limit: int
    """Most tokens of the answer."""
    seen: Seen | None
    """What the vision graph made of this turn's images."""
    layout: Layout
    """What the decoder read first."""
    prefilled: Prefilled
    """What the decoder made of it."""
    extent: Extent
    """This turn's images before anything was dropped."""
    guide: GuideResult | None
    cost: Cost
    """By the plan."""
    preprocess_ms: float
    vision_ms: float
    prefill_ms: float
    ttft_ms: float
    eos: tuple[int, ...]
    """Tokens that end the answer."""


def _stages(turn: Turn) -> tuple[StageResult, ...]:
    """What each stage read, from the plan's cost and from what its drop did."""
    found = []
    drops = (None, *turn.prefilled.drops)
    for counted, dropped in zip(turn.cost.stages, drops, strict=True):
        found.append(
            StageResult(
                first=counted.first,
                stop=counted.stop,
                image_tokens=counted.image_tokens,
                tokens=counted.tokens,
                flops=counted.flops,
                kv_bytes=counted.kv_bytes,
                score=dropped.drop.score if dropped else None,
                arrived=len(dropped.arrived.image_rows) if dropped else counted.image_tokens,
                kept=dropped.left.kept_of_images() if dropped else (),
                scores=dropped.scores if dropped else None,
            )
        )
    return tuple(found)


class Answer(Iterator[str]):
    """Iterate for the text as it comes, then read ``result``.

    Stopping early is allowed: a conversation continues from what was generated.
    """

    def __init__(
        self,
        loaded: LoadedBundle,
        cache: KVCache,
        sampler: Sampler,
        turn: Turn,
        memory: Memory,
        mark: Mark = unmarked,
    ) -> None:
        self._loaded = loaded
        self._mark = mark
        self._cache = cache
        self._sampler = sampler
        self._turn = turn
        self._memory = memory
        self._eos = turn.eos
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
            self._sampler.see([token])
            piece = text.step(token)
            if piece:
                yield piece
            if token in self._eos or len(self._tokens) >= self._turn.limit or loop is None:
                break
            started = perf_counter()
            token = self._sampler(loop.step(token))
            self._decode_ms += (perf_counter() - started) * 1e3
            self._tokens.append(token)
            self._mark("decode")
        rest = text.flush()
        if rest:
            yield rest
        self._result = self._make_result()
        self._mark("finish")

    def _make_result(self) -> Result:
        turn, seen = self._turn, self._turn.seen
        return Result(
            text=self._loaded.text.decode(self._tokens),
            tokens=tuple(self._tokens),
            finished="eos" if self._tokens[-1] in self._eos else "length",
            kept=turn.layout.kept_of_images(),
            stages=_stages(turn),
            average_tokens=turn.cost.average,
            scores=tuple(seen.given()) if seen and seen.scores is not None else (),
            prompt_tokens=turn.layout.tokens,
            image_tokens=len(turn.layout.image_rows),
            image_tokens_before=turn.extent.total,
            cache_tokens=self._cache.length,
            cache_bytes=self._cache.nbytes,
            guide=turn.guide,
            timings=Timings(
                preprocess_ms=turn.preprocess_ms,
                vision_ms=turn.vision_ms,
                prefill_ms=turn.prefill_ms,
                ttft_ms=turn.ttft_ms,
                decode_ms=self._decode_ms,
                decoded=len(self._tokens) - 1,
            ),
        )


class EarlyAnswer(Answer):
    """The answer of a guide that is sure: nothing more is generated."""

    def __init__(self, guide: Guide, guidance: Guidance, report: GuideResult) -> None:
        self._guide = guide
        self._guidance = guidance
        self._result = self._early(report)
        self._pieces = iter([self._result.text] if self._result.text else [])

    def _early(self, report: GuideResult) -> Result:
        said = self._guidance
        tokens = sum(len(scores) for scores in said.scores)
        return Result(
            text=report.text,
            tokens=said.tokens,
            finished=said.finished,
            kept=(),
            scores=(),
            prompt_tokens=said.read,
            image_tokens=tokens,
            image_tokens_before=tokens,
            stages=(),
            average_tokens=float(tokens),
            cache_tokens=said.cache_tokens,
            cache_bytes=said.cache_bytes,
            guide=report,
            timings=Timings(
                preprocess_ms=said.preprocess_ms,
                vision_ms=said.vision_ms,
                prefill_ms=said.prefill_ms,
                # Nothing is shown before the guide is sure of the whole.
                ttft_ms=said.ms,
                decode_ms=said.decode_ms,
                decoded=len(said.tokens) - 1,
            ),
        )
