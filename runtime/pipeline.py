"""A loaded bundle: ask it about images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .answer import Answer
from .bundle import Bundle
from .chat import Chat, Settings
from .images import DEFAULT_MAX_PIXELS
from .loaded import LoadedBundle
from .plan import Keep
from .result import Result


def load(
    path: str | Path,
    engine: str = "auto",
    *,
    threads: int | None = None,
    target: str | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    verify: bool = True,
) -> Pipeline:
    """Load a bundle.

    Args:
        path: folder that ``vtp export`` wrote.
        engine: what runs it: ``auto``, or a name that ``vtp list`` shows.
        threads: CPU threads; None lets the engine choose.
        target: flavour of graph; None takes the engine's best that the bundle carries.
        max_pixels: most pixels of an input image.
        verify: compare every file with its sha256 first; turn it off only for bundles that
            nobody else can write to.

    Raises:
        BundleError: the bundle is missing, broken, changed or unsafe.
        EngineError: the engine is unknown or cannot run here.
    """
    return Pipeline(Bundle(path), engine, threads, target, max_pixels, verify)


class Pipeline(LoadedBundle):
    """A bundle on an engine, to be asked questions; made by ``load``."""

    def chat(self, capacity: int | None = None) -> Chat:
        """A conversation of several turns over one KV cache.

        Args:
            capacity: most tokens of the whole conversation; None takes 2048, or the model's context
                where that is less.
        """
        return Chat(self, capacity or min(2048, self.bundle.manifest.language.context))

    def stream(
        self,
        image: Any,
        prompt: str,
        *,
        keep: Keep | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Answer:
        """Ask one question; iterate over the answer's text as it comes, then read ``.result``.

        Args:
            image: a path, bytes, a Pillow image, a numpy array ``(H, W[, 3])`` uint8, a sequence of
                those, or None for a question without image.
            prompt: the question. The image token in it (such as ``<image>``) says where images go;
                without it they go in front.
            keep: kept image tokens of each image, ratio (float) or count (int); None takes the
                bundle's default.
            max_new_tokens: longest answer; None takes the model's default, or what its context
                leaves.
            temperature: 0 is greedy; None takes the model's default.
            top_p: nucleus sampling; None takes the model's default.
            seed: makes sampling repeatable.

        Raises:
            VtpError: bad input; see ``vtp.errors``. Nothing has been run then.
        """
        settings = Settings(keep, max_new_tokens, temperature, top_p, seed)
        return Chat(self, None).stream(prompt, image, settings)

    def generate(
        self,
        image: Any,
        prompt: str,
        *,
        keep: Keep | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> Result:
        """Ask one question and wait for the whole answer; arguments as for ``stream``."""
        answer = self.stream(
            image,
            prompt,
            keep=keep,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
        )
        return answer.finish()
