"""An answer that is being generated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import RLock
from time import perf_counter

import numpy as np

from ...errors import AnswerOutdated
from ..bundle.cost import Cost
from ..model.decoder import DropOutput
from ..model.loaded import LoadedBundle
from ..model.marks import Mark, unmarked
from ..model.sampling import Sampler
from ..model.token_placement import TokenPlacement
from .conversation import Conversation
from .guide import Guidance
from .result import GuideResult, Result, StageResult, Timings, shown_text


@dataclass(frozen=True, kw_only=True, eq=False)
class PrefilledTurn:
    """A question that has been read into the cache; it holds no memory of an engine."""

    first: int
    """First token of the answer."""
    limit: int
    """Most tokens of the answer."""
    placement: TokenPlacement
    """What the decoder read first."""
    scores: tuple[np.ndarray, ...]
    """For each image those of the vision graph; none without pruning there."""
    drops: tuple[DropOutput, ...]
    """What was dropped inside the decoder."""
    image_tokens_before: int
    """Of this turn's images, before anything was dropped."""
    guide: GuideResult | None
    cost: Cost
    """By the plan."""
    preprocess_ms: float
    vision_ms: float
    prefill_ms: float
    ttft_ms: float
    eos: tuple[int, ...]
    """Tokens that end the answer."""


def _stages(turn: PrefilledTurn) -> tuple[StageResult, ...]:
    """What each stage read, from the plan's cost and from what its drop did."""
    found = []
    for counted, dropped in zip(turn.cost.stages, (None, *turn.drops), strict=True):
        found.append(
            StageResult(
                first=counted.first,
                stop=counted.stop,
                image_tokens=counted.image_tokens,
                tokens=counted.tokens,
                flops=counted.flops,
                kv_bytes=counted.kv_bytes,
                score=dropped.drop.score if dropped else None,
                arrived=len(dropped.before.image_rows) if dropped else counted.image_tokens,
                kept=dropped.after.kept_of_images() if dropped else (),
                scores=dropped.scores if dropped else None,
            )
        )
    return tuple(found)


class Answer(Iterator[str]):
    """Iterate for the text as it comes, then read ``result``.

    Stopping early is allowed: a conversation continues from what was generated. Threads that
    iterate over one answer take turns: each piece goes to one of them. While a piece is generated
    the model is held, and between two pieces it is free for other answers.
    """

    def __init__(
        self,
        loaded: LoadedBundle,
        conversation: Conversation,
        sampler: Sampler,
        turn: PrefilledTurn,
        mark: Mark = unmarked,
    ) -> None:
        self._lock = conversation.lock
        self._loaded, self._conversation = loaded, conversation
        self._mark = mark
        self._sampler = sampler
        self._turn = turn
        self._number = conversation.turns
        self._eos = turn.eos
        self._tokens = conversation.answer = [turn.first]
        conversation.pending = [] if turn.first in turn.eos else [turn.first]
        cache = conversation.cache
        assert cache is not None
        self._cache_tokens, self._cache_bytes = cache.length, cache.nbytes
        self._decode_ms = 0.0
        self._done = False
        """Whether all its tokens have been generated."""
        self._result: Result | None = None
        self._pieces = self._generate()

    def __iter__(self) -> Answer:
        return self

    def __next__(self) -> str:
        """The next piece of text.

        Raises:
            AnswerOutdated: the conversation has gone on to another turn.
            AlreadyClosed: the pipeline or the conversation has been closed.
        """
        with self._lock:
            if not self._done:
                self._check_current()
            return next(self._pieces)

    def __repr__(self) -> str:
        with self._lock:
            result, state = self.result, "going on"
        if self._done:
            state = result.finished
        return f"Answer({shown_text(result.text)}, {len(result.tokens)} tokens, {state})"

    def finish(self) -> Result:
        """Generate the rest and return the result."""
        for _ in self:
            pass
        return self.result

    @property
    def result(self) -> Result:
        """The answer so far; whole once iteration has ended."""
        with self._lock:
            return self._result or self._make_result()

    def _check_current(self) -> None:
        self._loaded.check_open()
        self._conversation.check_open()
        if self._conversation.turns != self._number:
            raise AnswerOutdated()

    def _generate(self) -> Iterator[str]:
        text = self._loaded.text.stream()
        if self._turn.limit > 1:
            self._begin_decoding()
        token = self._turn.first
        while True:
            self._conversation.pending = [] if token in self._eos else [token]
            self._sampler.penalize([token])
            piece = text.step(token)
            if piece:
                yield piece
            if token in self._eos or len(self._tokens) >= self._turn.limit:
                break
            started = perf_counter()
            token = self._next_token(token)
            self._decode_ms += (perf_counter() - started) * 1e3
            self._tokens.append(token)
            self._mark("decode")
        self._done, self._conversation.loop = True, None
        rest = text.flush()
        if rest:
            yield rest
        self._result = self._make_result()
        self._mark("finish")

    def _begin_decoding(self) -> None:
        with self._loaded.lock:
            cache = self._conversation.cache
            assert cache is not None
            self._conversation.loop = self._loaded.decoder.decode(cache)

    def _next_token(self, token: int) -> int:
        """One decode step."""
        with self._loaded.lock:
            self._loaded.check_open()
            loop, cache = self._conversation.loop, self._conversation.cache
            assert loop is not None
            assert cache is not None
            place = cache.place()
            try:
                chosen = self._sampler(loop.step(token))
            except BaseException:  # an interruption too: stages would be of different lengths
                cache.rewind(place)
                raise
            self._cache_tokens = cache.length
        return chosen

    def _make_result(self) -> Result:
        turn = self._turn
        return Result(
            text=self._loaded.text.decode(self._tokens),
            tokens=tuple(self._tokens),
            finished="eos" if self._tokens[-1] in self._eos else "length",
            kept=turn.placement.kept_of_images(),
            stages=_stages(turn),
            average_tokens=turn.cost.average,
            scores=turn.scores,
            prompt_tokens=turn.placement.tokens,
            image_tokens=len(turn.placement.image_rows),
            image_tokens_before=turn.image_tokens_before,
            cache_tokens=self._cache_tokens,
            cache_bytes=self._cache_bytes,
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

    def __init__(self, guidance: Guidance, report: GuideResult) -> None:
        self._lock = RLock()
        self._done = True
        self._result = _early_result(guidance, report)
        self._pieces = iter([self._result.text] if self._result.text else [])


def _early_result(guidance: Guidance, report: GuideResult) -> Result:
    tokens = sum(len(scores) for scores in guidance.scores)
    return Result(
        text=report.text,
        tokens=guidance.tokens,
        finished=guidance.finished,
        kept=(),
        scores=(),
        prompt_tokens=guidance.read,
        image_tokens=tokens,
        image_tokens_before=tokens,
        stages=(),
        average_tokens=float(tokens),
        cache_tokens=guidance.cache_tokens,
        cache_bytes=guidance.cache_bytes,
        guide=report,
        timings=Timings(
            preprocess_ms=guidance.preprocess_ms,
            vision_ms=guidance.vision_ms,
            prefill_ms=guidance.prefill_ms,
            # Nothing is shown before the guide is sure of the whole.
            ttft_ms=guidance.ms,
            decode_ms=guidance.decode_ms,
            decoded=len(guidance.tokens) - 1,
        ),
    )
