"""Matrix products of few bits, from what a bundle sees at work, within a bound on what is lost.

Everything is quantized first. Where that costs more than the bound allows, the parts that suffer
most from rounding alone stay as they are: one, two, four, ... of them, then as few as do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BoundNotMet, NotCalibratable
from ..export.quantization.activation_ranges import RangeEngine
from ..export.quantization.awq import awq_graph, find_factors
from ..export.quantization.qdq import quantize_graph, units
from ..export.quantization.quantized_bundle import write_quantized
from ..export.quantization.sensitivity import sensitivity
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.contract import is_language
from ..runtime.bundle.keep import Keep
from ..runtime.bundle.manifest import GraphRecord, ProductsRecord
from ..runtime.chat.pipeline import Pipeline
from ..runtime.engines.onnxruntime.cpu import OnnxRuntimeCpu
from ..runtime.media.images import DEFAULT_MAX_PIXELS
from .answers import Answerer, AnswerOptions, ModelAnswer, named
from .measure import Measured, measure
from .progress import Clock, Progress

if TYPE_CHECKING:
    import onnx

    from .data import QuestionFile
    from .journal import Journal

_ANSWER = 8
"""Tokens of each answer while ranges are seen."""


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """What is wished for."""

    form: str = "int8"
    """One of ``manifest.FORMS``."""
    keep: tuple[Keep, ...] = ()
    """Keep of the deployed model, one for each drop."""
    ranges: str = "minmax"
    """One of ``activation_ranges.METHODS``."""
    requests: int = 64
    """Questions that are asked to see ranges, at most: the first of the data."""
    max_drop: float = 0.01
    """Most accuracy (or agreement with the bundle before) that may be lost, as a share."""
    threads: int | None = None
    """CPU threads; None lets the engine choose."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """One choice of parts that stay as they are."""

    left: tuple[str, ...]
    measured: Measured


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedBundle:
    """What came out."""

    before: Measured
    """The bundle as it was, beside itself."""
    trials: tuple[Trial, ...]
    """In the order in which they were made."""
    chosen: Trial
    sensitivity: Mapping[str, float]
    """Part -> relative error of its graph's outputs where it alone is quantized; largest first."""


class Quantizer:
    """Quantizes one bundle.

    Args:
        bundle: the bundle; it stays as it is.
        data: questions to see ranges and to measure on.
        journal: what has been answered.
        options: what is wished for.
        asking: how questions are asked.
        progress: told of every step.

    Raises:
        NotCalibratable: a bundle that is quantized already, or needs another to answer.
    """

    def __init__(
        self,
        bundle: Bundle,
        data: QuestionFile,
        journal: Journal,
        options: QuantizeOptions,
        asking: AnswerOptions,
        progress: Progress,
    ) -> None:
        manifest = bundle.manifest
        if manifest.language.weights is not None or manifest.products is not None:
            raise NotCalibratable(
                bundle.path, "it is already quantized; start from a bundle that is not"
            )
        if manifest.plan.needs_guide:
            raise NotCalibratable(
                bundle.path, "it needs a guide to answer; quantize the guide instead"
            )
        if manifest.language.dtype not in OnnxRuntimeCpu.dtypes:
            raise NotCalibratable(
                bundle.path,
                f"{manifest.language.dtype} does not run on the processor, where ranges are seen; "
                "export with --dtype float16",
            )
        self.bundle, self.data, self.options = bundle, data, options
        self._journal, self._asking, self._progress = journal, asking, progress
        self._ranges: dict[str, Any] = {}
        self._feeds: dict[str, list[Mapping[str, Any]]] = {}
        self._factors: dict[str, Any] = {}

    def run(self, folder: Path) -> QuantizedBundle:
        """Write the quantized bundle into ``folder``, which is empty.

        Raises:
            BoundNotMet: every choice loses more than allowed.
            VerifyFailed: a graph fails when it is quantized.
        """
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".ranges.") as work:
            self._record_activations(Path(work))
        if self.options.form == "int4-awq":
            self._find_factors()
        order = self._sensitivity()
        progress, data = self._progress, self.data
        progress.step(f"asking {self.bundle.path} {len(data.questions)} questions")
        exact = self._ask(self.bundle)
        trials: dict[int, Trial] = {}

        def tried(count: int) -> bool:
            if count not in trials:
                left = tuple(order)[:count]
                trials[count] = self._try(left, exact, folder)
            return trials[count].measured.drop <= self.options.max_drop

        count = 0
        while not tried(count) and count < len(order):
            count = min(len(order), 2 * count or 1)
        chosen = trials[count]
        if chosen.measured.drop > self.options.max_drop:
            raise self._not_met(trials)
        least = max((failed for failed in trials if failed < count), default=-1)
        while count - least > 1:
            middle = (count + least) // 2
            if tried(middle):
                count = middle
            else:
                least = middle
        if trials[count] is not list(trials.values())[-1]:
            self._write(trials[count].left, folder)
        return QuantizedBundle(
            before=measure(data.questions, exact, exact),
            trials=tuple(trials.values()),
            chosen=trials[count],
            sensitivity=order,
        )

    def _record_activations(self, work: Path) -> None:
        """Ask the first questions of every target, and note ranges."""
        manifest, some = self.bundle.manifest, self.data.questions[: self.options.requests]
        self._progress.step(f"recording the activations of {len(some)} questions")
        clock = Clock(len(some) * len(manifest.targets()), self._progress)
        for target in manifest.targets():
            engine = RangeEngine(work, self.options.ranges, self.options.threads)
            pipeline = self._pipeline(self.bundle, engine, target)
            for question in some:
                with named(self.data.path, question):
                    pipeline.generate(
                        question.image,
                        question.prompt,
                        keep=self.options.keep or 1.0,
                        max_new_tokens=_ANSWER,
                    )
                clock.answered(True)
            self._ranges |= engine.ranges()
            self._feeds |= engine.feeds

    def _find_factors(self) -> None:
        """Of one target: the numbers of the others are the same, so that weights exist once."""
        self._progress.step("choosing how much to enlarge the weights of each channel")
        for record in self.bundle.manifest.graphs:
            if record.target == self._target() and self._quantizes(record):
                path = self.bundle.file(record.file)
                nodes = {node for names in units(path).values() for node in names}
                self._factors[record.name] = find_factors(path, self._feeds[record.file], nodes)

    def _quantizes(self, record: GraphRecord) -> bool:
        """Whether a graph has products that were seen, and that this form is for."""
        if self.options.form == "int4-awq" and not is_language(record.name):
            return False
        return record.file in self._ranges

    def _sensitivity(self) -> dict[str, float]:
        """Of one target; its parts are those of the others."""
        target = self._target()
        records = [
            record
            for record in self.bundle.manifest.graphs
            if record.target == target and self._quantizes(record)
        ]
        total = sum(len(units(self.bundle.file(record.file))) for record in records)
        self._progress.step(f"quantizing {total} parts, each alone")
        clock, found = Clock(total, self._progress), dict[str, float]()
        for record in records:
            errors = sensitivity(
                self.bundle.file(record.file),
                self._feeds[record.file],
                partial(self._quantized, record),
                lambda _: clock.answered(True),
            )
            found |= {f"{record.name} {part}": error for part, error in errors.items()}
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def _try(self, left: tuple[str, ...], exact: Sequence[ModelAnswer], folder: Path) -> Trial:
        kept = f", all but {len(left)} parts" if left else ""
        self._progress.step(f"quantizing to {self.options.form}{kept}, and asking again")
        self._write(left, folder)
        answers = self._ask(Bundle(folder))
        return Trial(left=left, measured=measure(self.data.questions, answers, exact))

    def _write(self, left: Sequence[str], folder: Path) -> None:
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        made: dict[str, onnx.ModelProto] = {}
        for record in self.bundle.manifest.graphs:
            if not self._quantizes(record):
                continue
            path = self.bundle.file(record.file)
            nodes = [
                node
                for part, names in units(path).items()
                if f"{record.name} {part}" in left
                for node in names
            ]
            made[record.file] = self._quantized(record, nodes)
        products = ProductsRecord(
            form=self.options.form,
            keep=self.options.keep,
            requests=min(self.options.requests, len(self.data.questions)),
            ranges=self.options.ranges,
            left=tuple(left),
        )
        write_quantized(self.bundle, folder, made, products)

    def _quantized(self, record: GraphRecord, left: Collection[str]) -> onnx.ModelProto:
        """A graph, quantized but for the products of the names in ``left``."""
        path, form = self.bundle.file(record.file), self.options.form
        if form != "int4-awq":
            ranges = self._ranges[record.file]
            return quantize_graph(path, ranges, form, record.target == "ort", left)
        nodes = {node for names in units(path).values() for node in names} - set(left)
        return awq_graph(path, nodes, self._factors[record.name])

    def _ask(self, bundle: Bundle) -> list[ModelAnswer]:
        # On the processor numbers of eight bits of the form fp8 are multiplied as floats.
        engine = OnnxRuntimeCpu(self.options.threads, exact=self.options.form == "fp8")
        pipeline = self._pipeline(bundle, engine, self._target())
        asker = Answerer(pipeline, self.data, self._journal, self._asking, self._progress)
        return asker.ask([self.options.keep])[self.options.keep]

    def _pipeline(self, bundle: Bundle, engine: OnnxRuntimeCpu, target: str) -> Pipeline:
        threads = self.options.threads
        return Pipeline(bundle, engine, threads, target, DEFAULT_MAX_PIXELS, False)

    def _target(self) -> str:
        targets = self.bundle.manifest.targets()
        return "ort" if "ort" in targets else targets[0]

    def _not_met(self, trials: Mapping[int, Trial]) -> BoundNotMet:
        best = min(trials.values(), key=lambda trial: trial.measured.drop)
        return BoundNotMet(
            f"a drop of at most {100 * self.options.max_drop:g} points in {self.options.form}",
            f"the best found loses {100 * best.measured.drop:.2f} points with {len(best.left)} "
            "parts left unquantized",
            "allow more (--max-drop), record more questions (--requests), or try other --ranges",
        )
