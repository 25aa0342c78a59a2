"""A conversation: turns of question, images and answer over one KV cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ContextTooLong, RequestOutdated
from ..model.cache import KVCache, Place
from ..model.decoder import PrefillOutput
from ..model.loaded import LoadedBundle
from ..model.marks import Mark, unmarked
from ..model.splice import splice
from ..model.token_placement import SplicedPrompt, TokenPlacement
from ..model.vision import VisionOutput
from .answer import Answer, EarlyAnswer, PrefilledTurn
from .conversation import Conversation, QuestionEnd
from .guide import Guidance, Guide
from .request import Request, RequestMaker, Scores
from .result import GuideResult, Result
from .settings import SettingOptions, Settings

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """What reading a turn gave."""

    placement: TokenPlacement
    counts: tuple[int, ...]
    scores: Scores
    prefill: PrefillOutput
    vision_ms: float
    prefill_ms: float


class Chat:
    """Several turns; what was read once stays in the cache.

    Image first, prompt second; a text alone is the prompt. Threads may share a conversation: its
    turns come one after the other.

    Where a model's chat template writes an answer that is over otherwise than it asked for it
    (``PromptLayout.answered``), the last answer is read again with every turn, which takes longer.

    Args:
        loaded: the bundle on its engine.
        capacity: most tokens of the conversation; None sizes the cache to the first turn alone.
        guide: ranks image tokens for the bundle; it sees one turn at a time.
    """

    def __init__(
        self, loaded: LoadedBundle, capacity: int | None, guide: Guide | None = None
    ) -> None:
        context = loaded.bundle.manifest.language.context
        if capacity is not None and not 1 <= capacity <= context:
            raise ContextTooLong(capacity, context, "the model's context")
        self._loaded = loaded
        self._maker = RequestMaker(loaded=loaded, capacity=capacity, guide=guide)
        self._guide = guide
        self._conversation = Conversation()
        loaded.closes_with_it(self._conversation)

    def ask(
        self,
        image: Any = None,
        prompt: str | None = None,
        *,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> Result:
        """Ask and wait for the whole answer; no other thread is answered in between.

        Args:
            image: images of this turn, or None; as for ``Pipeline.stream``.
            prompt: the question; alone it may stand first.
            settings: how to answer.
            options: fields of ``Settings``, by name.
        """
        with self._conversation.lock:
            return self.stream(image, prompt, settings=settings, **options).finish()

    def stream(
        self,
        image: Any = None,
        prompt: str | None = None,
        *,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> Answer:
        """Ask; iterate over the text as it comes, then read ``.result``; arguments as for ``ask``.

        The next turn continues from what was generated until then; after it this answer goes no
        further.
        """
        with self._conversation.lock:
            return self.run(self.request(image, prompt, settings=settings, **options))

    def request(
        self,
        image: Any = None,
        prompt: str | None = None,
        *,
        settings: Settings | None = None,
        scores: Scores | None = None,
        mark: Mark = unmarked,
        **options: Unpack[SettingOptions],
    ) -> Request:
        """Resolve a question without running anything; arguments as for ``ask``.

        Args:
            image: images of this turn, or None.
            prompt: the question.
            settings: how to answer.
            scores: for drops that are ranked from elsewhere.
            mark: told of every phase that ends (see ``marks``).
            options: fields of ``Settings``, by name.

        Raises:
            VtpError: bad input; see ``vtp.errors``.
        """
        with self._conversation.lock:
            self._check_open()
            past = self._conversation.past()
            told = Settings.of(settings, options)
            return self._maker.make(image, prompt, told, past, scores, mark)

    def run(self, request: Request, mark: Mark = unmarked) -> Answer:
        """Answer a request that ``request`` made, up to the first token.

        Args:
            request: made by this conversation, since its last turn.
            mark: told of every phase that ends, those of the answer too.

        Raises:
            RequestOutdated: it was not.
        """
        began, conversation = perf_counter(), self._conversation
        with conversation.lock, self._loaded.lock:
            self._check_open()
            self._check_current(request)
            cache = conversation.cache or self._loaded.decoder.cache(request.capacities)
            mark("prompt")
            guidance, report = self._rank_by_guide(request)
            if guidance is not None and report is not None:
                if report.exited:
                    return EarlyAnswer(guidance, report)
                mark("guide")
            sampler = request.sampling.sampler()
            known = conversation.read.union(request.turn.tokens, conversation.answer)
            sampler.penalize(known)
            with _unless_it_fails(cache, request.turn.place or cache.place()):
                read = self._read(request, guidance, cache, mark)
                first = sampler(read.prefill.logits)
            conversation.cache, conversation.loop, conversation.read = cache, None, known
            conversation.question_end = self._question_end(request, cache)
            conversation.turns += 1
            turn = PrefilledTurn(
                first=first,
                limit=request.max_new_tokens,
                placement=read.placement,
                scores=tuple(read.scores.get("vision", ())),
                drops=read.prefill.drops,
                image_tokens_before=request.extent.total,
                guide=report,
                cost=request.cost_of(read.counts),
                preprocess_ms=request.preprocess_ms,
                vision_ms=read.vision_ms,
                prefill_ms=read.prefill_ms,
                ttft_ms=request.ms + (perf_counter() - began) * 1e3,
                eos=request.eos,
            )
            mark("first token")
            return Answer(self._loaded, conversation, sampler, turn, mark)

    def close(self) -> None:
        """Release the KV cache; every later call raises ``AlreadyClosed``. Closing twice is no
        error."""
        self._conversation.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        conversation, capacity = self._conversation, self._maker.capacity
        cache = conversation.cache
        used = 0 if cache is None else cache.length
        of = "" if capacity is None else f" of {capacity}"
        closed = ", closed" if conversation.closed else ""
        turns = f"{conversation.turns} turn{'' if conversation.turns == 1 else 's'}"
        return f"Chat({turns}, {used}{of} tokens{closed})"

    def _check_open(self) -> None:
        self._loaded.check_open()
        self._conversation.check_open()

    def _check_current(self, request: Request) -> None:
        if request.bundle is not self._loaded.bundle:
            raise RequestOutdated(f"it was made for {str(request.bundle.path)!r}")
        if request.capacity != self._maker.capacity:
            raise RequestOutdated("it was made for a cache of another size")
        if (request.guide is None) != (self._guide is None):
            raise RequestOutdated("it was made with another guide")
        if request.past != self._conversation.past():
            raise RequestOutdated("the conversation is at another point")

    def _rank_by_guide(self, request: Request) -> tuple[Guidance | None, GuideResult | None]:
        """What the guide answers, where there is one; nothing large has run yet."""
        if self._guide is None or request.guide is None:
            return None, None
        guidance, threshold = self._guide.rank(request.guide), request.settings.exit_threshold
        report = GuideResult(
            text=self._guide.decode(guidance.tokens),
            scores=tuple(guidance.scores),
            confidence=guidance.confidence,
            consistency=guidance.consistency,
            certainty=guidance.certainty,
            threshold=threshold,
            exited=threshold is not None and guidance.certainty > threshold,
            ms=guidance.ms,
        )
        return guidance, report

    def _run_vision(self, request: Request) -> VisionOutput | None:
        inputs, loaded, prompt = request.inputs, self._loaded, None
        if not inputs.media:
            return None
        if loaded.vision.reads_prompt:
            placeholders = loaded.bundle.manifest.prompt.placeholders
            texts = [token for token in inputs.tokens if token not in placeholders]
            prompt = loaded.decoder.embed(np.array(texts))
        return loaded.vision(inputs.media, inputs.tile_counts, prompt)

    def _read(
        self, request: Request, guidance: Guidance | None, cache: KVCache, mark: Mark
    ) -> _Read:
        """Images and prompt through the graphs, into the cache."""
        began = perf_counter()
        vision = self._run_vision(request)
        encoded = perf_counter()
        if vision is not None:
            mark("vision")
        prompt = self._splice(request, vision, cache)
        mark("splice")
        counts = request.inputs.counts_after_vision(sum(prompt.placement.sizes))
        scores = _scores(request, guidance, vision)
        cache.rewind(request.turn.place or cache.place())
        in_decoder = request.inputs.plan.in_decoder(counts)
        prefill = self._loaded.decoder.prefill(prompt, cache, in_decoder, scores, mark)
        return _Read(
            placement=prompt.placement,
            counts=counts,
            scores=scores,
            prefill=prefill,
            vision_ms=(encoded - began) * 1e3,
            prefill_ms=(perf_counter() - encoded) * 1e3,
        )

    def _splice(
        self, request: Request, vision: VisionOutput | None, cache: KVCache
    ) -> SplicedPrompt:
        place = request.turn.place
        return splice(
            self._loaded.decoder,
            request.inputs.tokens,
            self._loaded.bundle.manifest.prompt.placeholders,
            vision.rows if vision else (),
            vision.arranged() if vision else (),
            start=cache.position if place is None else place.position,
        )

    def _question_end(self, request: Request, cache: KVCache) -> QuestionEnd | None:
        """Where the question of a turn that was just read ends, if its answer is read again."""
        layout, turn = self._loaded.bundle.manifest.prompt, request.turn
        if layout.answered is None:
            return None
        whole = (turn.before or "") + turn.text
        boundary = len(whole) - len(layout.user_close)
        back, start = self._loaded.text.tail(whole, boundary, begins=turn.before is None)
        return QuestionEnd(cache.place(back), whole[:start], whole[start:boundary])


@contextmanager
def _unless_it_fails(cache: KVCache, place: Place) -> Iterator[None]:
    """What is read within stays in the cache only if all of it goes well."""
    try:
        yield
    except BaseException:
        cache.rewind(place)
        raise


def _scores(request: Request, guidance: Guidance | None, vision: VisionOutput | None) -> Scores:
    """What drops are ranked by that comes from elsewhere than the decoder."""
    scores = dict(request.scores)
    if guidance is not None:
        scores["guide"] = guidance.scores
    if vision is not None and vision.scores is not None:
        scores["vision"] = vision.image_scores()
    return scores
