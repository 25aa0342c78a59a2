"""A conversation: turns of question, images and answer over one KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ..errors import ContextTooLong, ImageCountMismatch, SamplingInvalid
from .answer import Answer, Memory, Turn
from .decoder import KVCache
from .images import load_image
from .loaded import LoadedBundle
from .plan import Keep
from .result import Result
from .sampling import Sampler
from .splice import splice


@dataclass(frozen=True)
class Settings:
    """How to answer; None takes the bundle's default. See ``Pipeline.stream``."""

    keep: Keep | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


class Chat:
    """Several turns; what was read once stays in the cache.

    Args:
        loaded: the bundle on its engine.
        capacity: most tokens of the conversation; None sizes the cache to the first turn alone.
    """

    def __init__(self, loaded: LoadedBundle, capacity: int | None) -> None:
        context = loaded.bundle.manifest.language.context
        if capacity is not None and not 1 <= capacity <= context:
            raise ContextTooLong(capacity, context, "the model's context")
        self._loaded = loaded
        self._capacity = capacity
        self._cache: KVCache | None = None
        self._memory = Memory()

    def ask(self, prompt: str, image: Any = None, **settings: Any) -> Result:
        """Ask and wait for the whole answer.

        Args:
            prompt: the question.
            image: images of this turn, or None; as for ``Pipeline.stream``.
            settings: ``keep``, ``max_new_tokens``, ``temperature``, ``top_p``, ``seed``.
        """
        return self.stream(prompt, image, Settings(**settings)).finish()

    def stream(self, prompt: str, image: Any = None, settings: Settings | None = None) -> Answer:
        """Ask; iterate over the text as it comes, then read ``.result``."""
        started = perf_counter()
        settings = settings or Settings()
        loaded, manifest = self._loaded, self._loaded.bundle.manifest
        sampler = _sampler(settings, manifest.generation)
        keep = manifest.plan.count(settings.keep)
        images = _images(image, loaded.max_pixels)
        tokens = self._tokens(prompt, len(images))
        places = tokens.count(manifest.prompt.image_token_id)
        if places != len(images):
            raise ImageCountMismatch(places, len(images), manifest.prompt.image_token)

        read = len(tokens) + places * (keep - 1)
        cache, new = self._room(read, settings.max_new_tokens)
        pixels = manifest.preprocessing(images) if images else None
        preprocessed = perf_counter()
        seen = loaded.vision(pixels, keep) if pixels is not None else None
        looked = perf_counter()
        embeds = splice(
            loaded.decoder, tokens, manifest.prompt.image_token_id, seen.embeds if seen else None
        )
        logits = loaded.decoder.prefill(embeds, cache)
        filled = perf_counter()
        first = sampler(logits)
        self._cache = cache
        turn = Turn(
            first=first,
            limit=new,
            seen=seen,
            images=len(images),
            read=read,
            preprocess_ms=(preprocessed - started) * 1e3,
            vision_ms=(looked - preprocessed) * 1e3,
            prefill_ms=(filled - looked) * 1e3,
            ttft_ms=(perf_counter() - started) * 1e3,
        )
        return Answer(loaded, cache, sampler, turn, self._memory)

    def _tokens(self, prompt: str, images: int) -> list[int]:
        """Token ids of this turn, one image token for each image."""
        layout, text = self._loaded.bundle.manifest.prompt, self._loaded.text
        turn = layout.render_turn(prompt, images, first=self._cache is None)
        if self._cache is None:
            return text.encode(turn)
        spoken = text.decode(self._memory.tokens)
        return self._memory.pending + text.encode_more(spoken, turn)

    def _room(self, read: int, max_new_tokens: int | None) -> tuple[KVCache, int]:
        """The cache, with room for this turn, and how many tokens may be generated."""
        manifest = self._loaded.bundle.manifest
        if max_new_tokens is not None and max_new_tokens < 1:
            raise SamplingInvalid("max_new_tokens", max_new_tokens, "a count of at least 1")
        context = manifest.language.context
        used = self._cache.length if self._cache else 0
        limit = context if self._capacity is None else self._capacity
        what = "the model's context" if limit == context else "this conversation's cache"
        free = limit - used - read
        new = max_new_tokens or max(1, min(manifest.generation.max_new_tokens, free))
        if new > free:
            raise ContextTooLong(used + read + new, limit, what)
        if self._cache is not None:
            return self._cache, new
        # The last token generated is never read again, so it needs no place.
        capacity = self._capacity or read + new - 1
        return KVCache(self._loaded.decoder, capacity), new


def _images(image: Any, max_pixels: int) -> list[Any]:
    if image is None:
        return []
    given = (
        image if isinstance(image, Sequence) and not isinstance(image, (str, bytes)) else [image]
    )
    return [load_image(item, max_pixels=max_pixels) for item in given]


def _sampler(settings: Settings, defaults: Any) -> Sampler:
    return Sampler(
        temperature=defaults.temperature if settings.temperature is None else settings.temperature,
        top_p=defaults.top_p if settings.top_p is None else settings.top_p,
        seed=settings.seed,
    )
