"""One question, resolved once: what will be run, and what it will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from ...errors import ContextTooLong, GuideMissing, ImageCountMismatch, SamplingInvalid
from ..bundle.bundle import Bundle
from ..bundle.cost import Cost, cost
from ..bundle.keep import Keep, show_keeps
from ..bundle.plan import Extent
from ..model.cache import Place
from ..model.loaded import LoadedBundle
from ..model.marks import Mark, unmarked
from ..model.model_input import ModelInput, model_input
from ..model.sampling import Sampling
from .arguments import ordered
from .conversation import Past
from .guide import Guide, GuideRequest, guide_bundle_missing
from .media import Media, Read, kinds_of, prepare, read_media
from .settings import Settings

Scores = Mapping[str, Sequence[np.ndarray]]
"""For each image ``(tokens,)`` float32, by the name of the score that they are."""


@dataclass(frozen=True, kw_only=True)
class TurnText:
    """What a turn adds to a conversation."""

    text: str
    tokens: tuple[int, ...]
    before: str | None = None
    """Text that was encoded in front of it; None: it opens the conversation."""
    place: Place | None = None
    """Where the cache goes back to first; None: it stays where it is."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a turn and its answer take of the context and of the cache."""

    new_tokens: int
    """Most tokens of the answer."""
    capacities: tuple[int, ...]
    """Rows of the KV cache of each language stage."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """A question with its images, read, preprocessed and resolved; no graph has run yet.

    ``Pipeline.run`` or ``Chat.run`` answers it; before that it tells what the answer will take.
    """

    bundle: Bundle
    """Whose model it is for."""
    prompt: str
    settings: Settings
    """As they were given."""
    sampling: Sampling
    """How tokens are chosen, with the bundle's defaults."""
    eos: tuple[int, ...]
    """Tokens that end the answer."""
    images: tuple[Read, ...]
    """Images and videos, read."""
    turn: TurnText
    """What is added to the conversation."""
    inputs: ModelInput
    """Tokens, images, and what stays of them."""
    room: Room
    past: Past | None
    """The conversation that it goes on with; None: it opens one."""
    capacity: int | None
    """Most tokens of that conversation; None: the cache is for this turn alone."""
    guide: GuideRequest | None
    """What a guide is asked first, where there is one."""
    scores: Scores
    """Of drops that are ranked from elsewhere."""
    preprocess_ms: float
    """Time of the preprocessing, milliseconds."""
    ms: float
    """Time that it took to make this, milliseconds."""

    @property
    def keeps(self) -> tuple[Keep, ...]:
        """One keep for each place where the plan drops."""
        return self.inputs.keeps

    @property
    def counts(self) -> tuple[int, ...]:
        """Image tokens that are left after each of them, over all images."""
        return self.inputs.counts

    @property
    def extent(self) -> Extent:
        """Image tokens before anything is dropped."""
        return self.inputs.extent

    @property
    def stage_tokens(self) -> tuple[int, ...]:
        """Image tokens that each language stage reads."""
        return self.inputs.stage_tokens

    @property
    def prompt_tokens(self) -> int:
        """Tokens that prefill reads, kept image tokens included."""
        return self.inputs.text_tokens + self.stage_tokens[0]

    @property
    def max_new_tokens(self) -> int:
        """Most tokens of the answer."""
        return self.room.new_tokens

    @property
    def capacities(self) -> tuple[int, ...]:
        """Rows of the KV cache of each language stage."""
        return self.room.capacities

    @property
    def cost(self) -> Cost:
        """FLOPs and KV bytes of the turn, stage by stage, by the plan."""
        return self.cost_of(self.counts)

    def cost_of(self, counts: Sequence[int]) -> Cost:
        """The same, for other counts."""
        plan, language = self.inputs.plan, self.bundle.manifest.language
        text, new = self.inputs.text_tokens, self.max_new_tokens - 1
        return cost(plan, language, counts, self.extent, text, new)

    def __repr__(self) -> str:
        return (
            f"Request({self.prompt!r}, keep {show_keeps(self.keeps)}: {self.stage_tokens[0]} of "
            f"{self.extent.total} image tokens, {self.prompt_tokens} prompt tokens, at most "
            f"{self.max_new_tokens} new)"
        )


@dataclass(frozen=True, kw_only=True)
class RequestMaker:
    """Makes the requests of one conversation.

    Args:
        loaded: the bundle on its engine.
        capacity: most tokens of the conversation; None sizes the cache to each turn alone.
        guide: ranks image tokens for the bundle.
    """

    loaded: LoadedBundle
    capacity: int | None
    guide: Guide | None

    def make(
        self,
        image: Any,
        prompt: str | None,
        settings: Settings,
        past: Past | None = None,
        scores: Scores | None = None,
        mark: Mark = unmarked,
    ) -> Request:
        """Resolve a question, and refuse what cannot be answered.

        Args:
            image: images and videos, as for ``Pipeline.stream``.
            prompt: the question; None where it stands in the place of ``image``.
            settings: how to answer.
            past: the conversation so far.
            scores: for drops that are ranked from elsewhere.
            mark: told of every phase that ends.

        Raises:
            VtpError: anything that ``Pipeline.stream`` refuses.
        """
        began = perf_counter()
        image, prompt = ordered(image, prompt)
        manifest = self.loaded.bundle.manifest
        plan, layout, generation = manifest.plan, manifest.prompt, manifest.generation
        sampling, keeps = settings.sampling(generation), settings.keeps(plan)
        settings.check_limits()
        self._check_threshold(settings.exit_threshold)
        images = read_media(image, manifest.preprocessing, self.loaded.max_pixels)
        # A prompt that cannot be is refused before the images take their time.
        laid_out = layout.lay_out(prompt, kinds_of(images), past is None)
        loading = perf_counter()
        mark("read")
        media = prepare(images, manifest.preprocessing, layout)
        preprocessed = perf_counter()
        mark("preprocess")
        turn = self._turn(layout.expand(laid_out, media.pieces), past)
        inputs = self._inputs(turn, media, keeps)
        room = self._room(turn, inputs, settings, past)
        asked = None
        if self.guide is not None:
            mark("prompt")
            check, sizes = settings.exit_threshold is not None, inputs.extent.sizes
            asked = self.guide.request(prompt, images, settings.max_new_tokens, check, sizes)
            mark("guide")
        elif self._needs_guide(inputs, scores):
            raise guide_bundle_missing(self.loaded.bundle)
        return Request(
            bundle=self.loaded.bundle,
            prompt=prompt,
            settings=settings,
            sampling=sampling,
            eos=() if settings.ignore_eos else generation.eos,
            images=tuple(images),
            turn=turn,
            inputs=inputs,
            room=room,
            past=past,
            capacity=self.capacity,
            guide=asked,
            scores=dict(scores or {}),
            preprocess_ms=(preprocessed - loading) * 1e3,
            ms=(perf_counter() - began) * 1e3,
        )

    def _check_threshold(self, threshold: float | None) -> None:
        if threshold is None:
            return
        if self.guide is None:
            raise GuideMissing("an exit threshold needs a guide (--guide DIR, guide=...)")
        if self.capacity is not None:
            raise SamplingInvalid("exit_threshold", threshold, "none in a conversation")

    def _turn(self, turn: str, past: Past | None) -> TurnText:
        """The tokens of this turn."""
        layout, text = self.loaded.bundle.manifest.prompt, self.loaded.text
        if past is None:
            return TurnText(text=turn, tokens=tuple(text.encode(turn)))
        answer, end = text.decode(list(past.answer)), past.question_end
        if end is None:
            more = text.encode_more(answer, turn)
            return TurnText(text=turn, tokens=(*past.pending, *more), before=answer)
        turn = f"{end.rest}{layout.answered}{answer}{turn}"
        more = text.encode_more(end.before, turn)
        return TurnText(text=turn, tokens=tuple(more), before=end.before, place=end.place)

    def _inputs(self, turn: TurnText, media: Media, keeps: tuple[Keep, ...]) -> ModelInput:
        manifest = self.loaded.bundle.manifest
        layout, placed = manifest.prompt, media.placed
        places = sum(turn.tokens.count(token) for token in layout.placeholders)
        if places != len(placed):
            raise ImageCountMismatch(places, len(placed), layout.image_token)
        inputs = model_input(manifest.plan, turn.tokens, layout.placeholders, placed, keeps)
        self.loaded.check_request(inputs.counts, inputs.extent)
        return inputs

    def _room(
        self, turn: TurnText, inputs: ModelInput, settings: Settings, past: Past | None
    ) -> Room:
        """How many tokens may be generated, and the cache that holds them."""
        manifest, wanted = self.loaded.bundle.manifest, settings.max_new_tokens
        text, image_tokens = inputs.text_tokens, inputs.stage_tokens
        read = text + image_tokens[0]
        context = manifest.language.context
        place = past.place if turn.place is None and past is not None else turn.place
        used, position = (place.lengths[0], place.position) if place is not None else (0, 0)
        limit = context if self.capacity is None else self.capacity
        what = "the model's context" if limit == context else "this conversation's cache"
        # Where numbers are those of all tokens, they run ahead of the rows.
        numbered = position + read
        if manifest.plan.positions == "original":
            numbered += sum(medium.span for medium in inputs.media) - image_tokens[0]
        free = min(limit - used - read, context - numbered)
        new = wanted or max(1, min(manifest.generation.max_new_tokens, free))
        if new > free:
            over = context - numbered < limit - used - read
            if over:
                limit, what, used, read = context, "the model's context", 0, numbered
            raise ContextTooLong(used + read + new, limit, what)
        if past is not None:
            return Room(new_tokens=new, capacities=past.capacities)
        # The last token generated is never read again, so it needs no place.
        rows = [text + of_stage + new - 1 for of_stage in image_tokens]
        if self.capacity is not None:
            rows = [self.capacity] * len(image_tokens)
        return Room(new_tokens=new, capacities=self.loaded.decoder.capacities(rows))

    def _needs_guide(self, inputs: ModelInput, scores: Scores | None) -> bool:
        drops = min(inputs.counts, default=0) < inputs.extent.total
        return inputs.plan.needs_guide and drops and "guide" not in (scores or {})
