"""Replay a bundle's golden sample on an engine and measure how far each graph is off."""

from __future__ import annotations

import numpy as np

from ..errors import BeyondLimits, ManifestInvalid, VerifyFailed
from .decoder import Prefilled
from .guide import read_prompt
from .images import load_image
from .keep import Keep, show_keeps
from .layout import Prompt
from .manifest import Deviation, GoldenCase
from .pipeline import Pipeline
from .splice import splice
from .tensorfile import TensorFile

ROUNDING_TOLERANCE = 0.5
"""In place of the bundle's own where an engine rounds activations to 8 bits: it finds kernels that
fail, no more. Sharp attention turns small roundings into large differences of single scores."""


def replay(pipeline: Pipeline) -> list[Deviation]:
    """Run every golden case and compare with what PyTorch computed at export.

    The language graph gets PyTorch's image embeddings, not those of the vision graph, so that the
    graph that deviates is the graph that is named. Where the engine rounds activations to
    multiply them with quantized weights, the graphs are held to the bundle's tolerance without that
    first, and what is returned are the differences with it.

    Raises:
        VerifyFailed: naming the first graph beyond the tolerance.
        BundleError: the golden files are broken.
    """
    golden, exact = pipeline.bundle.manifest.golden, pipeline.engine.exact()
    if pipeline.bundle.manifest.language.weights is None or exact is None:
        return _Replay(pipeline, golden.tolerance).run()
    bundle, target, pixels = pipeline.bundle, pipeline.target, pipeline.max_pixels
    _Replay(Pipeline(bundle, exact, None, target, pixels, False), golden.tolerance).run()
    return _Replay(pipeline, max(golden.tolerance, ROUNDING_TOLERANCE)).run()


def stand_in_scores(tokens: int) -> np.ndarray:
    """Scores ``(1, tokens)`` in place of those of a guide, the same for every model."""
    # Every token another score: 7919 is a prime above any number of tokens of an image.
    scores: np.ndarray = (np.arange(tokens) * 613 % 7919)[None].astype(np.float32) / 7919
    return scores


class _Replay:
    def __init__(self, pipeline: Pipeline, tolerance: float) -> None:
        self.pipeline = pipeline
        self.golden = pipeline.bundle.manifest.golden
        self.tolerance = tolerance
        self.expected = TensorFile(pipeline.bundle.file(self.golden.tensors))
        self.deviations: list[Deviation] = []

    def run(self) -> list[Deviation]:
        manifest = self.pipeline.bundle.manifest
        image = load_image(self.pipeline.bundle.file(self.golden.image))
        pixels = manifest.preprocessing([image])
        for number, case in enumerate(self.golden.cases):
            if not self._fits(case):
                continue
            self._vision(number, case, pixels)
            self._language(number, case)
        return self.deviations

    def _fits(self, case: GoldenCase) -> bool:
        """Whether built engines take the case: they may have been built for smaller keeps."""
        try:
            self.pipeline.check_request(self.pipeline.bundle.manifest.plan.counts(case.keep, 1), 1)
        except BeyondLimits:
            return False
        return True

    def _vision(self, number: int, case: GoldenCase, pixels: np.ndarray) -> None:
        pipeline = self.pipeline
        plan = pipeline.bundle.manifest.plan
        count = plan.after_vision(plan.counts(case.keep, 1), 1)
        image_token = pipeline.bundle.manifest.prompt.image_token_id
        prompt = [token for token in self._prompt() if token != image_token]
        seen = pipeline.vision(pixels, count, pipeline.decoder.embed(np.array(prompt)))
        kept = self.expected.tensor(f"{number}.kept")
        if seen.scores is not None:
            scores = np.asarray(self.expected.tensor(f"{number}.scores"))
            self._compare("vision", case, "scores", scores, seen.scores)
            if not np.array_equal(kept, seen.kept):
                patches = [x[x >= 0] for x in (np.asarray(kept[0]), seen.kept[0])]
                self._accept_ties("vision", case, scores[0], *patches)
                return
        embeds = self.expected.tensor(f"{number}.image_embeds")
        self._compare("vision", case, "image_embeds", embeds, seen.embeds.read())

    def _prompt(self) -> list[int]:
        layout = self.pipeline.bundle.manifest.prompt
        turn = layout.render_turn(self.golden.prompt, 1, first=True)
        return self.pipeline.text.encode(turn)

    def _language(self, number: int, case: GoldenCase) -> None:
        pipeline = self.pipeline
        plan, decoder = pipeline.bundle.manifest.plan, pipeline.decoder
        embeds = np.asarray(self.expected.tensor(f"{number}.image_embeds"))
        images = pipeline.engine.buffer(embeds.shape, "float32")
        images.write(embeds)
        image_token = pipeline.bundle.manifest.prompt.image_token_id
        kept = np.asarray(self.expected.tensor(f"{number}.kept"))
        prompt = splice(decoder, self._prompt(), image_token, images, kept)
        cache = decoder.cache(prompt.layout.tokens + len(case.tokens))
        expected = np.asarray(self.expected.tensor(f"{number}.logits"))
        known = all(0 <= token < decoder.language.vocab for token in case.tokens)
        if not known or len(case.tokens) != len(expected):
            raise ManifestInvalid(f"golden.cases[{number}]", "its tokens do not fit its tensors")
        given = {"guide": stand_in_scores(plan.tokens)}
        if plan.vision_drop is not None:
            given["vision"] = np.asarray(self.expected.tensor(f"{number}.scores"))
        counts = plan.counts(case.keep, 1)
        read = decoder.prefill(prompt, cache, plan.in_decoder(counts), given)
        if not self._drops(number, case, read):
            return
        self._guiding(number, case, prompt)
        logits = read.logits
        loop = decoder.decode(cache)
        last = f"language.{len(plan.stages) - 1}"
        for step, token in enumerate(case.tokens):
            # PyTorch's tokens are fed, so that every step is compared on the same past.
            self._compare(last, case, f"logits[{step}]", expected[step], logits)
            self._same_choice(last, case, step, expected[step], logits, token)
            logits = loop.step(token)

    def _guiding(self, number: int, case: GoldenCase, prompt: Prompt) -> None:
        """Compare the attention that a guide reports."""
        guide, decoder = self.pipeline.bundle.manifest.plan.guide, self.pipeline.decoder
        if guide is None:
            return
        cache = decoder.cache(prompt.layout.tokens).stages[0]
        _, received = read_prompt(decoder, prompt, cache, guide.include_last_visual_row)
        expected = np.asarray(self.expected.tensor(f"{number}.received"))
        self._compare("language.0", case, "received", expected, received)

    def _drops(self, number: int, case: GoldenCase, read: Prefilled) -> bool:
        """Compare every drop; False where ties fell otherwise, so that what follows may differ."""
        for at, dropped in enumerate(read.drops):
            if dropped.scores is None:
                continue
            name = f"{number}.drop.{at}"
            scores = np.asarray(self.expected.tensor(f"{name}.scores"))
            graph = f"drop.{at + 1}"
            self._compare(graph, case, "scores", scores, dropped.scores)
            want = np.asarray(self.expected.tensor(f"{name}.left"))
            got = dropped.left.patches
            if np.array_equal(want, got):
                continue
            arrived, flat = dropped.arrived.patches, scores.ravel()
            places = [np.flatnonzero(np.isin(arrived, x[x >= 0])) for x in (want, got)]
            self._accept_ties(graph, case, flat, *places)
            return False
        return True

    def _compare(
        self, graph: str, case: GoldenCase, output: str, want: np.ndarray, got: np.ndarray
    ) -> None:
        deviation = compare(graph, self.pipeline.target, case.keep, output, want, got)
        self.deviations.append(deviation)
        limit = self.tolerance * max(float(np.abs(want).max()), 1e-6)
        if not deviation.max_abs <= limit:
            measured = (
                f"{output} at keep {show_keeps(case.keep)} differs by up to "
                f"{deviation.max_abs:.3g} (mean {deviation.mean_abs:.3g}, "
                f"cosine {deviation.cosine:.6f})"
            )
            raise VerifyFailed(
                self._where(graph), self.pipeline.engine.name, measured, f"{limit:.3g}"
            )

    def _accept_ties(
        self, graph: str, case: GoldenCase, scores: np.ndarray, want: np.ndarray, got: np.ndarray
    ) -> None:
        """Other kept tokens are right only if their scores tie at the cut, within the tolerance."""
        cut = scores[want].min(initial=np.inf)
        strangers = np.setxor1d(want, got)
        gap = float(np.abs(scores[strangers] - cut).max()) if len(strangers) else 0.0
        if gap > self.tolerance * float(np.abs(scores).max()) or len(got) != len(want):
            raise VerifyFailed(
                self._where(graph),
                self.pipeline.engine.name,
                f"kept tokens at keep {show_keeps(case.keep)} differ in {len(strangers)} places",
                "differences between tied scores only",
            )

    def _same_choice(
        self, graph: str, case: GoldenCase, step: int, want: np.ndarray, got: np.ndarray, token: int
    ) -> None:
        chosen = int(got.argmax())
        if chosen == token:
            return
        gap = float(want[token] - want[chosen])
        if gap > 2 * self.tolerance * float(np.abs(want).max()):
            raise VerifyFailed(
                self._where(graph),
                self.pipeline.engine.name,
                f"greedy token {step} at keep {show_keeps(case.keep)} is {chosen}, not {token}",
                "the same token, but for ties",
            )

    def _where(self, graph: str) -> str:
        return f"{graph} ({self.pipeline.target})"


def compare(
    graph: str, target: str, keep: tuple[Keep, ...], output: str, want: np.ndarray, got: np.ndarray
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
