"""Replay a bundle's golden sample on an engine and measure how far each graph is off."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from PIL import Image, ImageOps

from ...errors import BeyondLimits, ManifestInvalid, VerifyFailed
from ..bundle.bundle import Bundle
from ..bundle.contract import (
    CHECK,
    DROP,
    IMAGE_EMBEDS,
    RECEIVED,
    SCORES,
    drop_graph,
    language_graph,
)
from ..bundle.keep import Keep, show_keeps
from ..bundle.manifest import Deviation, GoldenCase
from ..bundle.prompt import PromptLayout
from ..chat.guide import read_prompt
from ..chat.media import Media, laid_out
from ..chat.pipeline import Pipeline
from ..engines.base import Engine
from ..files.tensorfile import TensorFile
from ..media.images import DEFAULT_MAX_PIXELS, load_image
from ..model.decoder import PrefillOutput
from ..model.model_input import ModelInput, model_input
from ..model.splice import splice
from ..model.token_placement import SplicedPrompt
from ..preprocessing import Preprocessor
from .checked_layers import CheckedLayers


def verify_bundle(
    bundle: Bundle,
    engine: str | Engine = "auto",
    *,
    threads: int | None = None,
    choice: str | None = None,
    verify: bool = True,
) -> tuple[str, list[Deviation]]:
    """Replay the golden sample of a bundle, or as much of it as the bundle was checked on.

    Args:
        bundle: the bundle.
        engine: name of an engine, or ``auto``; or the engine.
        threads: CPU threads; None lets the engine choose.
        choice: target of the graphs, or name of the variant; None takes the engine's best.
        verify: compare every file with its sha256 first.

    Returns:
        The engine's name, and how far each graph is off.

    Raises:
        VerifyFailed, BundleError, EngineError: as ``replay`` and ``load``.
    """
    golden = bundle.manifest.golden
    if golden.layers is not None:
        checked = CheckedLayers(bundle, engine, threads, choice, verify)
        exact, tolerance = checked.engine.exact(), golden.tolerance
        if bundle.manifest.language.weights is not None and exact is not None:
            _ReplayLayers(CheckedLayers(bundle, exact, None, choice, False), tolerance).run()
            tolerance = max(tolerance, ROUNDING_TOLERANCE)
        return checked.engine.name, _ReplayLayers(checked, tolerance).run()
    pipeline = Pipeline(bundle, engine, threads, choice, DEFAULT_MAX_PIXELS, verify)
    return pipeline.engine.name, replay(pipeline)


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
    """Scores ``(tokens,)`` in place of those of a guide, the same for every model."""
    # Every token another score: a prime above any number of tokens of an image.
    scores: np.ndarray = (np.arange(tokens) * 613 % 65537).astype(np.float32) / 65537
    return scores


class _InputRecord(Protocol):
    """The part of a manifest that says how to read a sample."""

    @property
    def preprocessing(self) -> Preprocessor: ...

    @property
    def prompt(self) -> PromptLayout: ...


def golden_media(record: _InputRecord, image: Image.Image, frames: int) -> Media:
    """The golden image, or a video of it: as it is and mirrored in turn."""
    preprocessor = record.preprocessing
    if not frames:
        return laid_out([preprocessor(image)], record.prompt)
    mirrored = ImageOps.mirror(image)
    video = preprocessor.video([(image, mirrored)[n % 2] for n in range(frames)], 1.0)
    return laid_out([video], record.prompt)


def golden_turn(layout: PromptLayout, question: str, media: Media) -> str:
    """The golden question about it."""
    return layout.render_turn(question, media.kinds, True, media.pieces)


class _Replay:
    def __init__(self, pipeline: Pipeline | CheckedLayers, tolerance: float) -> None:
        self.pipeline = pipeline
        self.last = language_graph(len(pipeline.bundle.manifest.plan.stages) - 1)
        """Graph whose logits are compared."""
        self.golden = pipeline.bundle.manifest.golden
        self.tolerance = tolerance
        self.expected = TensorFile(pipeline.bundle.file(self.golden.tensors))
        self.deviations: list[Deviation] = []
        self.inputs: ModelInput
        """Of the case that is being replayed."""

    def run(self) -> list[Deviation]:
        image = load_image(self.pipeline.bundle.file(self.golden.image))
        self._cases(image)
        return self.deviations

    def _cases(self, image: Image.Image) -> None:
        for number, case in enumerate(self.golden.cases):
            self._read(image, case)
            if self._fits():
                self._vision(number, case)
                self._language(number, case)

    def _read(self, image: Image.Image, case: GoldenCase) -> None:
        """Preprocess what a case asks about, and resolve its keeps."""
        manifest = self.pipeline.bundle.manifest
        layout, plan = manifest.prompt, manifest.plan
        media = golden_media(manifest, image, case.frames)
        tokens = self.pipeline.text.encode(golden_turn(layout, self.golden.prompt, media))
        keeps = plan.keeps(case.keep)
        self.inputs = model_input(plan, tokens, layout.placeholders, media.placed, keeps)

    def _fits(self) -> bool:
        """Whether built engines take the case: they may have been built for smaller keeps."""
        try:
            self.pipeline.check_request(self.inputs.counts, self.inputs.extent)
        except BeyondLimits:
            return False
        return True

    def _vision(self, number: int, case: GoldenCase) -> None:
        pipeline, inputs = self.pipeline, self.inputs
        graph = pipeline.vision.graph_name(inputs.media[0])
        placeholders = pipeline.bundle.manifest.prompt.placeholders
        prompt = [token for token in inputs.tokens if token not in placeholders]
        embedded = pipeline.embed(np.array(prompt))
        output = pipeline.vision(inputs.media, inputs.tile_counts, embedded)
        kept = np.asarray(self.expected.tensor(f"{number}.kept"))
        if output.scores is not None:
            scores = np.asarray(self.expected.tensor(f"{number}.scores"))
            self._compare(graph, case, SCORES, scores, np.stack(output.scores))
            if not np.array_equal(kept, np.stack(output.kept)):
                for of_tile, want, got in zip(scores, kept, output.kept, strict=True):
                    patches = [x[x >= 0] for x in (want, got)]
                    self._accept_ties(graph, case, of_tile, *patches)
                return
        embeds = self.expected.tensor(f"{number}.image_embeds")
        got = np.concatenate([part.read() for part in output.embeds])
        self._compare(graph, case, IMAGE_EMBEDS, embeds, got)

    def _language(self, number: int, case: GoldenCase) -> None:
        pipeline = self.pipeline
        plan, decoder = pipeline.bundle.manifest.plan, pipeline.decoder
        embeds = np.asarray(self.expected.tensor(f"{number}.image_embeds"))
        images = pipeline.engine.buffer(embeds.shape, "float32")
        images.write(embeds)
        placeholders = pipeline.bundle.manifest.prompt.placeholders
        kept = tuple(np.asarray(self.expected.tensor(f"{number}.kept")))
        scores = None
        if plan.vision_drop is not None:
            scores = tuple(np.asarray(self.expected.tensor(f"{number}.scores")))
        inputs = self.inputs
        output = pipeline.vision.output(inputs.media, [images], kept, scores)
        prompt = splice(decoder, inputs.tokens, placeholders, output.rows, output.arranged())
        cache = decoder.cache(prompt.placement.tokens + len(case.tokens))
        expected = np.asarray(self.expected.tensor(f"{number}.logits"))
        known = all(0 <= token < decoder.language.vocab for token in case.tokens)
        if not known or len(case.tokens) != len(expected):
            raise ManifestInvalid(f"golden.cases[{number}]", "its tokens do not fit its tensors")
        ranking = {"guide": [stand_in_scores(size) for size in inputs.extent.sizes]}
        if scores is not None:
            ranking["vision"] = output.image_scores()
        counts = inputs.counts_after_vision(len(prompt.placement.image_rows))
        counts = plan.in_decoder(counts)[: len(decoder.plan.decoder_drops)]
        read = decoder.prefill(prompt, cache, counts, ranking)
        if not self._drops(number, case, read):
            return
        self._guiding(number, case, prompt)
        logits = read.logits
        loop = decoder.decode(cache)
        for step, token in enumerate(case.tokens):
            # PyTorch's tokens are fed, so that every step is compared on the same past.
            self._compare(self.last, case, f"logits[{step}]", expected[step], logits)
            self._same_choice(self.last, case, step, expected[step], logits, token)
            logits = loop.step(token)

    def _guiding(self, number: int, case: GoldenCase, prompt: SplicedPrompt) -> None:
        """Compare the attention that a guide reports."""
        guide, decoder = self.pipeline.decoder.plan.guide, self.pipeline.decoder
        if guide is None:
            return
        cache = decoder.cache(prompt.placement.tokens).stages[0]
        _, received = read_prompt(decoder, prompt, cache, guide.include_last_visual_row)
        expected = np.asarray(self.expected.tensor(f"{number}.received"))
        self._compare(language_graph(0), case, RECEIVED, expected, received)

    def _drops(self, number: int, case: GoldenCase, read: PrefillOutput) -> bool:
        """Compare every drop; False where ties fell otherwise, so that what follows may differ."""
        for at, dropped in enumerate(read.drops):
            if dropped.scores is None:
                continue
            name = f"{number}.{DROP}.{at}"
            scores = np.asarray(self.expected.tensor(f"{name}.scores"))
            graph = drop_graph(at + 1)
            self._compare(graph, case, SCORES, scores, dropped.scores)
            want = np.asarray(self.expected.tensor(f"{name}.left"))
            got = dropped.after.entries
            if np.array_equal(want, got):
                continue
            before, flat = dropped.before.entries, scores.ravel()
            places = [np.flatnonzero(np.isin(before, x[x >= 0])) for x in (want, got)]
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


class _ReplayLayers(_Replay):
    """Of a model that was checked on its first layers; one graph is loaded at a time."""

    def __init__(self, checked: CheckedLayers, tolerance: float) -> None:
        super().__init__(checked, tolerance)
        self.checked = checked
        self.last = CHECK

    def _same_choice(
        self, graph: str, case: GoldenCase, step: int, want: np.ndarray, got: np.ndarray, token: int
    ) -> None:
        """Hidden states choose no token."""

    def _cases(self, image: Image.Image) -> None:
        graphs = self.checked.graphs()
        for compare_graph in (self._vision, self._language):
            next(graphs)
            for number, case in enumerate(self.golden.cases):
                self._read(image, case)
                if self._fits():
                    compare_graph(number, case)


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
