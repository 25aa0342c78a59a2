"""A loaded bundle: ask it about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import OptionInvalid
from ..bundle.bundle import Bundle
from ..bundle.keep import Keep, Keeps
from ..media.images import DEFAULT_MAX_PIXELS
from ..model.loaded import LoadedBundle
from .answer import Answer
from .chat import Chat, Settings
from .guide import Guide
from .result import Result


def load(
    path: str | Path,
    engine: str = "auto",
    *,
    threads: int | None = None,
    target: str | None = None,
    variant: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    verify: bool = True,
    guide: str | Path | None = None,
) -> Pipeline:
    """Load a bundle.

    Args:
        path: folder that ``vtp export`` wrote.
        engine: what runs it: ``auto``, or a name that ``vtp list`` shows.
        threads: CPU threads; None lets the engine choose.
        target: flavour of graph; None takes the engine's best that the bundle carries.
        variant: name of the built engines, for an engine that ``vtp build`` builds for; None takes
            the newest that fits.
        max_pixels: most pixels of an input image.
        verify: compare every file with its sha256 first; turn it off only for bundles that
            nobody else can write to.
        guide: folder of a smaller model's bundle (``vtp export --method guide``) that ranks the
            image tokens for this one; needed where the plan drops by a guide's scores.

    Raises:
        BundleError: the bundle is missing, broken, changed or unsafe.
        EngineError: the engine is unknown or cannot run here.
    """
    bundle = Bundle(path)
    if variant is not None:
        engine = _engine_of(bundle, variant, engine)
    choice = target or variant
    pipeline = Pipeline(bundle, engine, threads, choice, max_pixels, verify)
    if guide is not None:
        small = LoadedBundle(Bundle(guide), engine, threads, choice, max_pixels, verify)
        pipeline.guide = Guide(small, pipeline)
    return pipeline


def _engine_of(bundle: Bundle, variant: str, engine: str) -> str:
    """The engine that a variant was built for, which ``engine`` must name, or ``auto``."""
    built = {record.name: record.engine for record in bundle.manifest.variants}
    fitting = [name for name, of in built.items() if engine in ("auto", of)]
    if variant not in fitting:
        listed = ", ".join(fitting) or "none was built"
        raise OptionInvalid("variant", variant, f"a variant built for engine {engine} ({listed})")
    return built[variant]


class Pipeline(LoadedBundle):
    """A bundle on an engine, to be asked questions; made by ``load``."""

    guide: Guide | None = None
    """Ranks image tokens for it."""

    def chat(self, capacity: int | None = None) -> Chat:
        """A conversation of several turns over one KV cache.

        Args:
            capacity: most tokens of the whole conversation; None takes 2048, or the model's context
                where that is less; built engines hold what they were built for.
        """
        context, limits = self.bundle.manifest.language.context, self.source.limits
        usual = min(2048, context) if limits is None else limits.tokens
        return Chat(self, usual if capacity is None else capacity, self.guide)

    def stream(
        self,
        image: Any,
        prompt: str,
        *,
        keep: Keeps | None = None,
        average: Keep | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        exit_threshold: float | None = None,
    ) -> Answer:
        """Ask one question; iterate over the answer's text as it comes, then read ``.result``.

        Args:
            image: a path, bytes, a Pillow image, a numpy array ``(H, W[, 3])`` uint8, a ``Video``,
                a sequence of those, or None for a question without image.
            prompt: the question. The image token in it (such as ``<image>``) says where images go,
                the video token where videos go; without them all go in front.
            keep: kept image tokens of each image, ratio (float) or count (int); one for each place
                where the plan drops, in order; None takes the bundle's default.
            average: instead of ``keep``, image tokens that a language layer reads in the mean.
            max_new_tokens: longest answer; None takes the model's default, or what its context
                leaves.
            temperature: 0 is greedy; None takes the model's default.
            top_p: nucleus sampling; None takes the model's default.
            top_k: draw from so many most probable tokens, 0 from all; None takes the model's
                default.
            repetition_penalty: makes tokens less likely that prompt or answer hold already, greedy
                or not; 1 changes nothing; None takes the model's default.
            seed: makes sampling repeatable.
            exit_threshold: with a guide: return its answer where its certainty, mean of confidence
                and consistency, is above this; None always asks the large model too.

        Raises:
            VtpError: bad input; see ``vtp.errors``. Nothing has been run then.
        """
        settings = Settings(
            keep=keep,
            average=average,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            exit_threshold=exit_threshold,
        )
        return Chat(self, None, self.guide).stream(prompt, image, settings)

    def generate(
        self,
        image: Any,
        prompt: str,
        *,
        keep: Keeps | None = None,
        average: Keep | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        exit_threshold: float | None = None,
    ) -> Result:
        """Ask one question and wait for the whole answer; arguments as for ``stream``."""
        answer = self.stream(
            image,
            prompt,
            keep=keep,
            average=average,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            seed=seed,
            exit_threshold=exit_threshold,
        )
        return answer.finish()
