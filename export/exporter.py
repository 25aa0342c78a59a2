"""``vtp export``: from a model to a checked bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from safetensors.numpy import save_file
from torch._subclasses.fake_tensor import FakeTensorMode

from .. import __version__
from ..errors import (
    KeepOutOfRange,
    ModelNotSupported,
    ParityFailed,
    VerifyFailed,
)
from ..runtime.keep import Keep, Keeps, check_keep
from ..runtime.manifest import (
    FILE_NAME,
    SCHEMA,
    Deviation,
    FileRecord,
    GenerationDefaults,
    Golden,
    GoldenCase,
    GraphRecord,
    LanguageRecord,
    Manifest,
    ModelRecord,
    TensorSpec,
    WeightsRecord,
)
from ..runtime.pipeline import load
from ..runtime.plan import Plan
from ..runtime.text import Text
from ..runtime.verify import compare, replay
from .attention import use_traced_attention
from .checkpoint import Checkpoint
from .families.base import LanguageParts, VisionParts
from .graphs import GraphMaker, TracedGraph
from .model_folder import ModelFolder
from .output import replace_folder
from .precision import DEFAULT_BLOCK, chosen_targets, quantized_weights
from .quantize import dequantize, quantize
from .recipe import Recipe, make_recipe
from .reference import (
    PROMPT,
    Reference,
    Sample,
    check_unpruned,
    golden_tensors,
    load_torch_model,
    plain_reference,
    sample_image,
    use_weights,
)
from .scores import score_class
from .source import find_model
from .staged_reference import StagedReference, emitted
from .targets import make_target
from .weights import WeightFile, numpy_type
from .widened import widened_copy

TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest accepted difference from PyTorch in float32, relative to the largest magnitude of a
tensor, by the type of the weights."""


class Progress:
    """What an export tells about its progress; the command line draws it."""

    def step(self, text: str) -> None:
        """A step begins."""

    def fraction(self, done: int, total: int) -> None:
        """Part of the step that is done."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export, and how."""

    method: str | None = None
    """Names with ``+`` between, each with ``:PRESET`` behind it or not; None takes ``stages`` alone
    where some are given, else FasterVLM."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters of the methods, such as ``{"seed": 1}``."""
    stages: tuple[str, ...] = ()
    """A free schedule inside the decoder, ``LAYER:KEEP:SCORE`` each."""
    positions: str | None = None
    """Position mode; None takes the published one."""
    keep: Keeps | None = None
    """Default keep of the bundle, one for each drop; None takes the methods'."""
    average: Keep | None = None
    """Instead of ``keep``: the default mean over the language layers."""
    dtype: str = "float32"
    """Type of weights, KV cache and most of the arithmetic: a key of ``DTYPES``; norms, softmax and
    scores are float32 always, and so is what goes from graph to graph."""
    weights: str | None = None
    """``int4`` or ``int8``: the matrices of the decoder and of its head in so many bits, all else
    in ``dtype``; None: no fewer bits."""
    block: int = DEFAULT_BLOCK
    """Quantized weights that share a scale: one of ``manifest.BLOCKS``."""
    symmetric: bool = True
    """Quantized weights have no zero points; TensorRT takes no others."""
    targets: tuple[str, ...] | None = None
    """Flavours of graph, keys of ``targets.TARGETS``; None takes ``DEFAULT_TARGETS``, of those the
    ones that have the ``dtype``."""
    revision: str | None = None
    """Commit, tag or branch on the hub."""
    force: bool = False
    """Replace an existing bundle."""


def export_model(
    model: str, out: str | Path, options: ExportOptions, progress: Progress | None = None
) -> Manifest:
    """Export a model to a bundle folder, and check it against PyTorch.

    Args:
        model: preset, local folder or hub id.
        out: the folder to write; it appears complete or not at all.
        options: method, keep and the rest.
        progress: told about every step.

    Raises:
        KeepOutOfRange, ModelError, ExportError: see ``vtp.errors``.
    """
    progress = progress or Progress()
    recipe = make_recipe(options.method, options.parameters, options.stages, options.positions)
    _check_keeps(options)
    targets = chosen_targets(options.targets, options.dtype)
    quantized = quantized_weights(options.weights, options.block, options.symmetric, targets)
    options = replace(options, targets=targets)
    with replace_folder(Path(out), options.force) as folder:
        progress.step("reading the model")
        source = find_model(model, options.revision)
        opened = ModelFolder(source.folder)
        origin = ModelRecord(id=source.id, revision=source.revision, family=opened.family.name)
        return _Export(opened, origin, recipe, options, quantized, folder, progress).run()


def _check_keeps(options: ExportOptions) -> None:
    if options.average is not None:
        if options.keep is not None:
            raise KeepOutOfRange(f"{options.keep} with average {options.average}")
        check_keep(options.average)
    keep = options.keep
    for one in keep if isinstance(keep, Sequence) and not isinstance(keep, str) else [keep]:
        if one is not None:
            check_keep(one)


class _Export:
    def __init__(
        self,
        opened: ModelFolder,
        model: ModelRecord,
        recipe: Recipe,
        options: ExportOptions,
        quantized: WeightsRecord | None,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.opened = opened
        self.model = model
        self.recipe = recipe
        self.options = options
        self.quantized = quantized
        self.generation = GenerationDefaults(**opened.generation())
        self.folder = folder
        self.progress = progress
        self.checkpoint = Checkpoint(opened.folder, opened.family.canonical_name)
        self.weights = WeightFile(options.dtype)

    def run(self) -> Manifest:
        family, config = self.opened.family, self.opened.config
        with FakeTensorMode():
            with _made_as(self.options.dtype):
                model = family.make(config).eval()
            use_traced_attention(model)
            vision, language = family.vision(model), family.language(model)
            plan = self.recipe.plan(
                vision, len(language.layers), self.options.keep, self.options.average
            )
            self._check_size(vision)
            maker = GraphMaker(family, model, self.checkpoint, self.weights, self.quantized)
            graphs = [
                (name, graph)
                for name in self.options.targets or ()
                for graph in self._trace(maker, vision, language, plan, name)
            ]
        embedding = family.embedding_name()
        self.weights.weight(embedding, self.checkpoint.shape(embedding))
        weights = self._write_weights()
        records = [self._write_graph(graph, target) for target, graph in graphs]
        tokenizer = self._write_tokenizer()
        record = _language_record(language, embedding, self.options.dtype, self.quantized)
        golden, files = self._golden(plan, record)
        manifest = Manifest(
            schema=SCHEMA,
            vtp=__version__,
            model=self.model,
            plan=plan,
            graphs=tuple(records),
            weights=weights,
            language=record,
            preprocessing=self.opened.preprocessing,
            prompt=self.opened.prompt,
            generation=self.generation,
            files=(tokenizer, *files),
            golden=golden,
        )
        return self._check(manifest)

    def _check_size(self, vision: VisionParts) -> None:
        made = (self.opened.preprocessing.height, self.opened.preprocessing.width)
        if made != vision.image_size:
            raise ModelNotSupported(
                f"an image processor that makes {made[0]} x {made[1]} pixels",
                [f"the {vision.image_size[0]} x {vision.image_size[1]} of the vision tower"],
            )

    def _trace(
        self,
        maker: GraphMaker,
        vision: VisionParts,
        language: LanguageParts,
        plan: Plan,
        target_name: str,
    ) -> Iterator[TracedGraph]:
        target = make_target(target_name)

        def traced(name: str, graph: Callable[[], TracedGraph]) -> TracedGraph:
            self.progress.step(f"tracing {name} for {target_name}")
            return graph()

        width = language.config.hidden_size
        yield traced("vision", lambda: maker.vision(vision, self.recipe.vision, width, target))
        if plan.guide is not None:
            yield traced("language.0", lambda: maker.guide(language, target))
            return
        if any("rater_weights" in score_class(d.score).inputs for d in plan.decoder_drops):
            yield traced("raters", lambda: maker.raters(language, target))
        drops = (*plan.decoder_drops, None)
        for number, (stage, drop) in enumerate(zip(plan.stages, drops, strict=True)):
            emits = emitted(drop.score if drop else None)
            yield traced(
                f"language.{number}",
                partial(
                    maker.language, language, stage, number, emits, plan.gapless(number), target
                ),
            )
            if drop is not None:
                yield traced(
                    f"drop.{number + 1}",
                    partial(maker.drop, language, drop, number + 1, target),
                )

    def _write_weights(self) -> FileRecord:
        self.progress.step("writing weights")
        total = self.weights.nbytes()
        sha256, size = self.weights.write(
            self.folder, self.checkpoint, lambda done: self.progress.fraction(done, total)
        )
        return FileRecord(file=self.weights.file_name, sha256=sha256, bytes=size)

    def _write_graph(self, graph: TracedGraph, target: str) -> GraphRecord:
        self.weights.place_initializers(graph.model, graph.weights)
        file = f"{graph.name}.onnx" if target == "onnx" else f"{graph.name}.{target}.onnx"
        ir.save(graph.model, self.folder / file)
        record = self._file(file)
        return GraphRecord(
            name=graph.name,
            target=target,
            file=file,
            sha256=record.sha256,
            bytes=record.bytes,
            opset=graph.model.opset_imports[""],
            inputs=_specs(graph.model.graph.inputs),
            outputs=_specs(graph.model.graph.outputs),
        )

    def _write_tokenizer(self) -> FileRecord:
        self.opened.save_tokenizer(self.folder / "tokenizer.json")
        return self._file("tokenizer.json")

    def _golden(self, plan: Plan, language: LanguageRecord) -> tuple[Golden, list[FileRecord]]:
        self.progress.step("running PyTorch on the golden sample")
        image, layout = sample_image(), self.opened.prompt
        image.save(self.folder / "golden.png")
        prompt = Text(self.folder / "tokenizer.json").encode(layout.render_turn(PROMPT, 1, True))
        pixels = self.opened.preprocessing([image])
        keeps: list[tuple[Keep, ...]] = [(1.0,) * len(plan.drops)]
        if plan.keeps(None) != keeps[0]:
            keeps.append(plan.keeps(None))
        sample = Sample(pixels, prompt, layout.image_token_id)
        narrow: Reference | None = None
        if self.options.dtype == "bfloat16":
            model = load_torch_model(self.opened.config, self.opened.folder, torch.bfloat16)
            narrow = plain_reference(model, sample)
        model = load_torch_model(self.opened.config, self.opened.folder)
        plain = plain_reference(model, sample)
        exact = replace(language, dtype="float32")
        staged = StagedReference(self.opened.family, model, self.recipe, plan, exact)
        cases = self._run_cases(staged, sample, keeps)
        check_unpruned(cases[0], plain, TOLERANCES["float32"])
        rounding: tuple[Deviation, ...] = ()
        if self.quantized is not None:
            self._quantize_reference(model, self.quantized)
            checkpoint, cases = cases, self._run_cases(staged, sample, keeps)
            rounding = tuple(map(_rounding, checkpoint, cases))
        if narrow is not None:
            rounding += (_rounding(plain, replace(narrow, keep=cases[0].keep)),)
        tensors = self.folder / "golden.safetensors"
        save_file(dict(golden_tensors(cases)), tensors)
        tensors.chmod(0o644)  # as every other file; the library writes for the owner alone
        golden = Golden(
            image="golden.png",
            prompt=PROMPT,
            tensors="golden.safetensors",
            tolerance=TOLERANCES[self.options.dtype],
            cases=tuple(GoldenCase(keep=case.keep, tokens=case.tokens) for case in cases),
            measured=(),
            rounding=rounding,
        )
        return golden, [self._file("golden.png"), self._file("golden.safetensors")]

    def _run_cases(
        self, staged: StagedReference, sample: Sample, keeps: list[tuple[Keep, ...]]
    ) -> list[Reference]:
        cases: list[Reference] = []
        for done, keep in enumerate(keeps):
            self.progress.fraction(done, len(keeps))
            cases.append(staged.run(sample, keep))
        return cases

    def _quantize_reference(self, model: Any, how: WeightsRecord) -> None:
        """Give PyTorch the weights that the graphs have."""
        dtype = numpy_type(self.options.dtype)
        use_weights(
            model,
            self.weights.quantized_sources(),
            self.opened.family.canonical_name,
            lambda weight: dequantize(quantize(weight, how, dtype), how),
        )

    def _check(self, manifest: Manifest) -> Manifest:
        """Replay the golden sample on every target, and note what was measured."""
        path = self.folder / FILE_NAME
        path.write_text(manifest.to_json(), encoding="utf-8")
        measured = []
        for target in self.options.targets or ():
            self.progress.step(f"checking target {target} against PyTorch")
            try:
                measured += self._replay(target)
            except VerifyFailed as error:
                raise ParityFailed(error.graph, error.measured, error.tolerance) from error
        manifest = _with_measured(manifest, measured)
        path.write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def _replay(self, target: str) -> list[Deviation]:
        if self.options.dtype != "bfloat16":
            return replay(load(self.folder, "cpu", target=target))
        with widened_copy(self.folder) as copy:
            return replay(load(copy, "cpu", target=target, verify=False))

    def _file(self, name: str) -> FileRecord:
        data = (self.folder / name).read_bytes()
        return FileRecord(file=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _rounding(checkpoint: Reference, quantized: Reference) -> Deviation:
    """How far the first logits of a case moved when the weights were quantized."""
    want, got = checkpoint.logits[0], quantized.logits[0]
    return compare("language", "pytorch", quantized.keep, "logits[0]", want, got)


@contextmanager
def _made_as(dtype: str) -> Iterator[None]:
    """Within, modules are made with parameters of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _with_measured(manifest: Manifest, measured: list[Any]) -> Manifest:
    return replace(manifest, golden=replace(manifest.golden, measured=tuple(measured)))


def _language_record(
    language: LanguageParts, embedding: str, dtype: str, weights: WeightsRecord | None
) -> LanguageRecord:
    config = language.config
    return LanguageRecord(
        layers=len(language.layers),
        heads=config.num_attention_heads,
        kv_heads=language.kv_heads,
        head_dim=language.head_dim,
        width=config.hidden_size,
        inner=config.intermediate_size,
        vocab=config.vocab_size,
        context=language.context,
        embedding=embedding,
        dtype=dtype,
        weights=weights,
    )


def _specs(values: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=value.name,
            dtype=value.dtype.numpy().name,
            shape=tuple(
                dim if isinstance(dim, int) else str(dim.value) for dim in value.shape.dims
            ),
        )
        for value in values
    )
