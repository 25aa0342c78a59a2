"""A conversation: turns of question, images and answer over one KV cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ...errors import (
    ContextTooLong,
    GuideMissing,
    ImageCountMismatch,
    KeepOutOfRange,
    SamplingInvalid,
)
from ..bundle.cost import cost
from ..bundle.keep import Keep, Keeps
from ..bundle.manifest import GenerationDefaults
from ..bundle.plan import Extent
from ..model.cache import KVCache, Place
from ..model.loaded import LoadedBundle
from ..model.marks import Mark, unmarked
from ..model.sampling import Sampler
from ..model.splice import splice
from ..model.vision import Seen, extent_of
from ..preprocessing.base import Medium
from .answer import Answer, Asked, EarlyAnswer, Memory, Turn
from .guide import Guidance, Guide, guide_bundle_missing
from .media import VIDEO, kinds_of, placed, preprocess, read_media
from .result import GuideResult, Result


@dataclass(frozen=True)
class Settings:
    """How to answer; None takes the bundle's default. See ``Pipeline.stream``."""

    keep: Keeps | None = None
    average: Keep | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    exit_threshold: float | None = None
    ignore_eos: bool = False
    """Whether to go on behind an end token, to ``max_new_tokens``."""


@dataclass(frozen=True)
class _Turn:
    """What a turn reads."""

    tokens: list[int]
    text: str
    before: str | None = None
    """Text that was encoded in front of it; None: it opens the conversation."""
    place: Place | None = None
    """Where the cache goes back to first; None: it stays where it is."""


class Chat:
    """Several turns; what was read once stays in the cache.

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
        self._guide = guide
        self._capacity = capacity
        self._cache: KVCache | None = None
        self._memory = Memory()
        self._read: set[int] = set()
        """Tokens of the conversation so far, but for the last answer."""

    def ask(self, prompt: str, image: Any = None, **settings: Any) -> Result:
        """Ask and wait for the whole answer.

        Args:
            prompt: the question.
            image: images of this turn, or None; as for ``Pipeline.stream``.
            settings: those of ``Pipeline.stream``, by name.
        """
        return self.stream(prompt, image, Settings(**settings)).finish()

    def stream(
        self,
        prompt: str,
        image: Any = None,
        settings: Settings | None = None,
        scores: Mapping[str, Sequence[np.ndarray]] | None = None,
        mark: Mark = unmarked,
    ) -> Answer:
        """Ask; iterate over the text as it comes, then read ``.result``.

        Args:
            prompt: the question.
            image: images of this turn, or None.
            settings: how to answer.
            scores: for each image ``(tokens,)`` float32 for drops ranked from elsewhere, by the
                name of the score.
            mark: told of every phase that ends (see ``marks``), those of the answer too.
        """
        started = perf_counter()
        settings = settings or Settings()
        loaded, manifest = self._loaded, self._loaded.bundle.manifest
        sampler = _sampler(settings, manifest.generation)
        keep = settings.keep
        if settings.average is not None:
            if keep is not None:
                raise KeepOutOfRange(f"{keep} with average {settings.average}")
            keep = manifest.plan.keeps_for_average(settings.average)
        manifest.plan.keeps(keep)
        images = read_media(image, manifest.preprocessing, loaded.max_pixels)
        kinds, layout = kinds_of(images), manifest.prompt
        # A prompt that cannot be is refused before the images take their time.
        layout.render_turn(prompt, kinds, self._cache is None, [1] * len(kinds))
        loading = perf_counter()
        mark("read")
        media = preprocess(images, manifest.preprocessing)
        preprocessed = perf_counter()
        mark("preprocess")
        turn = self._turn(prompt, kinds, media)
        tokens, media = turn.tokens, placed(media, layout)
        places = sum(tokens.count(token) for token in layout.placeholders)
        if places != len(media):
            raise ImageCountMismatch(places, len(media), layout.image_token)
        media = loaded.vision.ready(media, keep)

        extent, text = extent_of(media), len(tokens) - places
        counts = manifest.plan.counts(keep, extent)
        loaded.check_request(counts, extent)
        seen_by_stage = manifest.plan.tokens_of_stages(counts, extent)
        cache, new = self._room(turn.place, text, media, seen_by_stage, settings.max_new_tokens)
        mark("prompt")
        guidance, report = self._ask_guide(prompt, images, (counts, extent), settings, scores)
        if guidance is not None and report is not None and report.exited:
            assert self._guide is not None
            return EarlyAnswer(self._guide, guidance, report)
        guided = perf_counter()
        if guidance is not None:
            mark("guide")
        seen = self._look(media, keep, tokens)
        looked = perf_counter()
        if seen is not None:
            mark("vision")
        turn_tokens = splice(
            loaded.decoder,
            tokens,
            layout.placeholders,
            seen.rows if seen else (),
            seen.arranged() if seen else (),
            start=cache.position if turn.place is None else turn.place.position,
        )
        mark("splice")
        given = dict(scores or {})
        if guidance is not None:
            given["guide"] = guidance.scores
        if seen is not None and seen.scores is not None:
            given["vision"] = seen.given()
        counts = manifest.plan.counts(keep, extent, sum(turn_tokens.layout.sizes))
        if turn.place is not None:
            cache.go_back(turn.place)
        prefilled = loaded.decoder.prefill(
            turn_tokens, cache, manifest.plan.in_decoder(counts), given, mark
        )
        logits = prefilled.logits
        filled = perf_counter()
        self._read.update(tokens, self._memory.tokens)
        sampler.see(self._read)
        first = sampler(logits)
        self._cache = cache
        self._memory.asked = self._asked(turn.text, turn.before, cache)
        answering = Turn(
            first=first,
            limit=new,
            seen=seen,
            layout=turn_tokens.layout,
            prefilled=prefilled,
            extent=extent,
            guide=report,
            cost=cost(manifest.plan, manifest.language, counts, extent, text, new - 1),
            preprocess_ms=(preprocessed - loading) * 1e3,
            vision_ms=(looked - guided) * 1e3,
            prefill_ms=(filled - looked) * 1e3,
            ttft_ms=(perf_counter() - started) * 1e3,
            eos=() if settings.ignore_eos else manifest.generation.eos,
        )
        mark("first token")
        return Answer(loaded, cache, sampler, answering, self._memory, mark)

    def _turn(self, prompt: str, kinds: Sequence[str], media: Sequence[Medium]) -> _Turn:
        """The tokens of this turn."""
        layout, text, memory = self._loaded.bundle.manifest.prompt, self._loaded.text, self._memory
        frames = [len(m.pixels) for kind, m in zip(kinds, media, strict=True) if kind == VIDEO]
        turn = layout.render_turn(prompt, kinds, self._cache is None, frames)
        if self._cache is None:
            return _Turn(text.encode(turn), turn)
        spoken, asked = text.decode(memory.tokens), memory.asked
        if asked is None:
            return _Turn(memory.pending + text.encode_more(spoken, turn), turn, before=spoken)
        turn = f"{asked.rest}{layout.answered}{spoken}{turn}"
        return _Turn(text.encode_more(asked.before, turn), turn, asked.before, asked.place)

    def _asked(self, turn: str, before: str | None, cache: KVCache) -> Asked | None:
        """Where the question of a turn that was just read ends, if its answer is read again."""
        layout = self._loaded.bundle.manifest.prompt
        if layout.answered is None:
            return None
        whole = (before or "") + turn
        boundary = len(whole) - len(layout.user_close)
        back, start = self._loaded.text.tail(whole, boundary, begins=before is None)
        return Asked(cache.place(back), whole[:start], whole[start:boundary])

    def _ask_guide(
        self,
        prompt: str,
        images: Sequence[Any],
        asked: tuple[Sequence[int], Extent],
        settings: Settings,
        scores: Mapping[str, Sequence[np.ndarray]] | None,
    ) -> tuple[Guidance | None, GuideResult | None]:
        """What the guide says, where there is one; nothing large has run yet."""
        threshold = settings.exit_threshold
        if threshold is not None and not (isinstance(threshold, (int, float)) and threshold >= 0):
            raise SamplingInvalid("exit_threshold", threshold, "a number from 0 up, such as 0.9")
        if self._guide is None:
            plan = self._loaded.bundle.manifest.plan
            if threshold is not None:
                raise GuideMissing("an exit threshold needs a guide (--guide DIR, guide=...)")
            counts, extent = asked
            drops = min(counts, default=0) < extent.total
            if plan.needs_guide and drops and "guide" not in (scores or {}):
                raise guide_bundle_missing(self._loaded.bundle)
            return None, None
        if threshold is not None and self._capacity is not None:
            raise SamplingInvalid("exit_threshold", threshold, "none in a conversation")
        check = threshold is not None
        sizes = asked[1].sizes
        said = self._guide.look(prompt, images, settings.max_new_tokens, check, sizes)
        report = GuideResult(
            text=self._guide.decode(said.tokens),
            scores=tuple(said.scores),
            confidence=said.confidence,
            consistency=said.consistency,
            certainty=said.certainty,
            threshold=threshold,
            exited=threshold is not None and said.certainty > threshold,
            ms=said.ms,
        )
        return said, report

    def _look(self, media: Sequence[Medium], keep: Keeps | None, tokens: list[int]) -> Seen | None:
        if not media:
            return None
        loaded, prompt = self._loaded, None
        if loaded.vision.reads_prompt:
            placeholders = loaded.bundle.manifest.prompt.placeholders
            prompt = loaded.decoder.embed(np.array([t for t in tokens if t not in placeholders]))
        return loaded.vision(media, keep, prompt)

    def _room(
        self,
        place: Place | None,
        text: int,
        media: Sequence[Medium],
        image_tokens: Sequence[int],
        max_new_tokens: int | None,
    ) -> tuple[KVCache, int]:
        """The cache, with room for this turn, and how many tokens may be generated."""
        manifest = self._loaded.bundle.manifest
        if max_new_tokens is not None and max_new_tokens < 1:
            raise SamplingInvalid("max_new_tokens", max_new_tokens, "a count of at least 1")
        read = text + image_tokens[0]
        context = manifest.language.context
        if place is None and self._cache is not None:
            place = self._cache.place()
        used, position = (place.lengths[0], place.position) if place is not None else (0, 0)
        limit = context if self._capacity is None else self._capacity
        what = "the model's context" if limit == context else "this conversation's cache"
        # Where numbers are those of all tokens, they run ahead of the rows.
        numbered = position + read
        if manifest.plan.positions == "original":
            numbered += sum(medium.span for medium in media) - image_tokens[0]
        free = min(limit - used - read, context - numbered)
        new = max_new_tokens or max(1, min(manifest.generation.max_new_tokens, free))
        if new > free:
            over = context - numbered < limit - used - read
            if over:
                limit, what, used, read = context, "the model's context", 0, numbered
            raise ContextTooLong(used + read + new, limit, what)
        if self._cache is not None:
            return self._cache, new
        # The last token generated is never read again, so it needs no place.
        capacities = [text + seen + new - 1 for seen in image_tokens]
        if self._capacity is not None:
            capacities = [self._capacity] * len(image_tokens)
        return self._loaded.decoder.cache(capacities), new


def _sampler(settings: Settings, defaults: GenerationDefaults) -> Sampler:
    chosen = {
        name: getattr(defaults if getattr(settings, name) is None else settings, name)
        for name in ("temperature", "top_p", "top_k", "repetition_penalty")
    }
    return Sampler(**chosen, seed=settings.seed)
