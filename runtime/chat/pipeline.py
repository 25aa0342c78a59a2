"""A loaded bundle: ask it about images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import OptionInvalid
from ..bundle.bundle import Bundle
from ..bundle.keep import show_keeps
from ..media.images import DEFAULT_MAX_PIXELS
from ..model.loaded import LoadedBundle
from .answer import Answer
from .chat import Chat
from .guide import Guide
from .request import Request
from .result import Result
from .settings import SettingOptions, Settings

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
    """A bundle on an engine, to be asked questions; made by ``load``.

    Image first, prompt second. Threads may share a pipeline: images and prompts are prepared side
    by side, and where the model works they take turns, step by step. It is a context manager that
    closes itself.
    """

    guide: Guide | None = None
    """Ranks image tokens for it; closed with it."""

    def chat(self, capacity: int | None = None) -> Chat:
        """A conversation of several turns over one KV cache.

        Args:
            capacity: most tokens of the whole conversation; None takes 2048, or the model's context
                where that is less; built engines hold what they were built for.
        """
        self.check_open()
        context, limits = self.bundle.manifest.language.context, self.source.limits
        usual = min(2048, context) if limits is None else limits.tokens
        return Chat(self, usual if capacity is None else capacity, self.guide)

    def stream(
        self,
        image: Any,
        prompt: str,
        *,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> Answer:
        """Ask one question; iterate over the answer's text as it comes, then read ``.result``.

        Args:
            image: a path, bytes, a Pillow image, a numpy array ``(H, W[, 3])`` uint8 in RGB, a
                ``Video``, a sequence of those, or None for a question without image.
            prompt: the question. The image token in it (such as ``<image>``) says where images go,
                the video token where videos go; without them all go in front.
            settings: how to answer.
            options: fields of ``Settings``, by name; one that is given in both is an error:

                keep: kept image tokens of each image, ratio (float) or count (int); one for each
                    place where the plan drops, in order; None takes the bundle's default.
                average: instead of ``keep``, image tokens that a language layer reads in the mean.
                max_new_tokens: longest answer; None takes the model's default, or what its context
                    leaves.
                temperature: 0 is greedy; None takes the model's default.
                top_p: nucleus sampling; None takes the model's default.
                top_k: draw from so many most probable tokens, 0 from all; None takes the model's
                    default.
                repetition_penalty: makes tokens less likely that prompt or answer hold already,
                    greedy or not; 1 changes nothing; None takes the model's default.
                seed: makes sampling repeatable.
                exit_threshold: with a guide: return its answer where its certainty, mean of
                    confidence and consistency, is above this; None always asks the large model too.
                ignore_eos: go on after an end token, to ``max_new_tokens``.

        Raises:
            VtpError: bad input; see ``vtp.errors``. Nothing has been run then.
        """
        chat = self._single_turn()
        return chat.run(chat.request(image, prompt, settings=settings, **options))

    def generate(
        self,
        image: Any,
        prompt: str,
        *,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> Result:
        """Ask one question and wait for the whole answer; arguments as for ``stream``."""
        return self.stream(image, prompt, settings=settings, **options).finish()

    def request(
        self,
        image: Any,
        prompt: str,
        *,
        settings: Settings | None = None,
        **options: Unpack[SettingOptions],
    ) -> Request:
        """Resolve a question without running anything: what it will cost; arguments and errors as
        for ``stream``."""
        return self._single_turn().request(image, prompt, settings=settings, **options)

    def run(self, request: Request) -> Answer:
        """Answer a request that ``request`` made; it may be run more than once.

        Raises:
            RequestOutdated: it was made by another pipeline, or in a conversation.
        """
        return self._single_turn().run(request)

    def close(self) -> None:
        """Release graphs, KV caches and device memory, its chats' and its guide's too, after the
        step that is running; every later call raises ``AlreadyClosed``. Closing twice is no
        error."""
        super().close()
        if self.guide is not None:
            self.guide.close()

    def __repr__(self) -> str:
        plan = self.bundle.manifest.plan
        engine = "closed" if self._engine is None else f"engine {self._engine.name}"
        return (
            f"Pipeline({str(self.bundle.path)!r}, {engine}, method {plan.name}, "
            f"keep {show_keeps(plan.keeps(None))})"
        )

    def _single_turn(self) -> Chat:
        self.check_open()
        return Chat(self, None, self.guide)
