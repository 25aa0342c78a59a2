"""Replay a bundle's golden sample on an engine and measure how far each graph is off."""

from __future__ import annotations

import numpy as np

from ..errors import ManifestInvalid, VerifyFailed
from .decoder import KVCache
from .images import load_image
from .manifest import Deviation, GoldenCase
from .pipeline import Pipeline
from .splice import splice
from .tensorfile import TensorFile


def replay(pipeline: Pipeline) -> list[Deviation]:
    """Run every golden case and compare with what PyTorch computed at export.

    The language graph gets PyTorch's image embeddings, not those of the vision graph, so that the
    graph that deviates is the graph that is named.

    Raises:
        VerifyFailed: naming the first graph beyond the tolerance.
        BundleError: the golden files are broken.
    """
    return _Replay(pipeline).run()


class _Replay:
    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.golden = pipeline.bundle.manifest.golden
        self.expected = TensorFile(pipeline.bundle.file(self.golden.tensors))
        self.deviations: list[Deviation] = []

    def run(self) -> list[Deviation]:
        manifest = self.pipeline.bundle.manifest
        image = load_image(self.pipeline.bundle.file(self.golden.image))
        pixels = manifest.preprocessing([image])
        for number, case in enumerate(self.golden.cases):
            self._vision(number, case, pixels)
            self._language(number, case)
        return self.deviations

    def _vision(self, number: int, case: GoldenCase, pixels: np.ndarray) -> None:
        plan = self.pipeline.bundle.manifest.plan
        count = plan.count(case.keep)
        seen = self.pipeline.vision(pixels, count)
        kept = self.expected.tensor(f"{number}.kept")
        if seen.scores is not None:
            scores = np.asarray(self.expected.tensor("scores"))
            self._compare("vision", case, "scores", scores, seen.scores)
            if not np.array_equal(kept, seen.kept):
                self._accept_ties(case, scores[0], kept[0], seen.kept[0])
                return
        embeds = self.expected.tensor(f"{number}.image_embeds")
        self._compare("vision", case, "image_embeds", embeds, seen.embeds.read())

    def _language(self, number: int, case: GoldenCase) -> None:
        pipeline = self.pipeline
        layout, decoder = pipeline.bundle.manifest.prompt, pipeline.decoder
        embeds = np.asarray(self.expected.tensor(f"{number}.image_embeds"))
        images = pipeline.engine.buffer(embeds.shape, "float32")
        images.write(embeds)
        turn = layout.render_turn(self.golden.prompt, 1, first=True)
        prompt = splice(decoder, pipeline.text.encode(turn), layout.image_token_id, images)
        cache = KVCache(decoder, prompt.shape[1] + len(case.tokens))
        expected = np.asarray(self.expected.tensor(f"{number}.logits"))
        known = all(0 <= token < decoder.language.vocab for token in case.tokens)
        if not known or len(case.tokens) != len(expected):
            raise ManifestInvalid(f"golden.cases[{number}]", "its tokens do not fit its tensors")
        logits = decoder.prefill(prompt, cache)
        loop = decoder.decode(cache)
        for step, token in enumerate(case.tokens):
            # PyTorch's tokens are fed, so that every step is compared on the same past.
            self._compare("language.0", case, f"logits[{step}]", expected[step], logits)
            self._same_choice(case, step, expected[step], logits, token)
            logits = loop.step(token)

    def _compare(
        self, graph: str, case: GoldenCase, output: str, want: np.ndarray, got: np.ndarray
    ) -> None:
        deviation = compare(graph, self.pipeline.target, case.keep, output, want, got)
        self.deviations.append(deviation)
        limit = self.golden.tolerance * max(float(np.abs(want).max()), 1e-6)
        if not deviation.max_abs <= limit:
            measured = (
                f"{output} at keep {case.keep} differs by up to {deviation.max_abs:.3g} "
                f"(mean {deviation.mean_abs:.3g}, cosine {deviation.cosine:.6f})"
            )
            raise VerifyFailed(
                self._where(graph), self.pipeline.engine.name, measured, f"{limit:.3g}"
            )

    def _accept_ties(
        self, case: GoldenCase, scores: np.ndarray, want: np.ndarray, got: np.ndarray
    ) -> None:
        """Other kept tokens are right only if their scores tie at the cut, within the tolerance."""
        cut = scores[want].min()
        strangers = np.setxor1d(want, got)
        gap = float(np.abs(scores[strangers] - cut).max()) if len(strangers) else 0.0
        if gap > self.golden.tolerance * float(np.abs(scores).max()) or len(got) != len(want):
            raise VerifyFailed(
                self._where("vision"),
                self.pipeline.engine.name,
                f"kept tokens at keep {case.keep} differ in {len(strangers)} places",
                "differences between tied scores only",
            )

    def _same_choice(
        self, case: GoldenCase, step: int, want: np.ndarray, got: np.ndarray, token: int
    ) -> None:
        chosen = int(got.argmax())
        if chosen == token:
            return
        gap = float(want[token] - want[chosen])
        if gap > 2 * self.golden.tolerance * float(np.abs(want).max()):
            raise VerifyFailed(
                self._where("language.0"),
                self.pipeline.engine.name,
                f"greedy token {step} at keep {case.keep} is {chosen}, not {token}",
                "the same token, but for ties",
            )

    def _where(self, graph: str) -> str:
        return f"{graph} ({self.pipeline.target})"


def compare(
    graph: str, target: str, keep: int | float, output: str, want: np.ndarray, got: np.ndarray
) -> Deviation:
    """Largest and mean absolute difference, and cosine, of two arrays of one shape."""
    a, b = (np.asarray(x, dtype=np.float64).ravel() for x in (want, got))
    difference = np.abs(a - b)
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return Deviation(
        graph=graph,
        target=target,
        keep=keep,
        output=output,
        max_abs=float(difference.max()),
        mean_abs=float(difference.mean()),
        cosine=float(a @ b / norm) if norm else 1.0,
    )
