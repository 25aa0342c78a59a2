"""``vtp export``: from a model to a checked bundle."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from torch._subclasses.fake_tensor import FakeTensorMode

from .. import __version__
from ..errors import (
    DiskFull,
    KeepOutOfRange,
    ParityFailed,
    VerifyFailed,
)
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.contract import CHECK, language_graph
from ..runtime.bundle.keep import Keep, Keeps, check_keep
from ..runtime.bundle.manifest import (
    FILE_NAME,
    SCHEMA,
    Deviation,
    FileRecord,
    Golden,
    GraphRecord,
    LanguageRecord,
    Manifest,
    ModelRecord,
    WeightsRecord,
)
from ..runtime.bundle.plan import Plan
from ..runtime.verify.verify import verify_bundle
from .check.cut_graph import cut_graph
from .check.depth import check_form, checked_layers
from .check.golden import make_golden
from .check.memory import give_back
from .check.weight_samples import check_samples
from .check.widened import widened_copy
from .graphs.neutral import NeutralGraph, neutral_graph
from .graphs.weight_places import WeightPlaces
from .modules.graphs import language_graphs, vision_graphs
from .output import replace_folder
from .plan.checkpoint_check import check_checkpoint, check_index, check_room
from .plan.cut_model import CutModel, cut_model
from .plan.model_folder import ModelFolder
from .plan.precision import DEFAULT_BLOCK, chosen_targets, quantized_weights
from .plan.recipe import Recipe, make_recipe
from .records import file_record, graph_file, graph_record, language_record
from .source.checkpoint import Checkpoint, index_keys
from .source.find import ModelSource, find_model
from .targets import make_target
from .targets.base import lower
from .weights.weight_file import WeightFile


class Progress:
    """What an export tells about its progress; the command line draws it."""

    def step(self, text: str) -> None:
        """A step begins."""

    def fraction(self, done: int, total: int) -> None:
        """Part of the step that is done."""

    def note(self, text: str) -> None:
        """Something that the user should know, and that stops nothing."""


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
    layout: str | None = None
    """Of models that read tiles of an image: how they lie in the prompt, ``unpad`` (the library's,
    the default) or ``spatial`` (as in FasterVLM's published code)."""
    check: str = "auto"
    """What is compared with PyTorch at the end: ``full``, ``layers:N`` (the vision graph and the
    first N language layers), or ``auto``: full where memory holds the model."""
    context: int | None = None
    """Positions that the graphs know; None takes those of the model."""
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
    check_form(options.check)
    targets = chosen_targets(options.targets, options.dtype)
    quantized = quantized_weights(options.weights, options.block, options.symmetric, targets)
    options = replace(options, targets=targets)
    with replace_folder(Path(out), options.force) as folder:
        progress.step("reading the model")
        source = find_model(model, options.revision)
        opened = ModelFolder(source.folder, options.layout)
        return _Export(opened, source, recipe, options, quantized, folder, progress).run()


def _check_keeps(options: ExportOptions) -> None:
    if options.average is not None:
        if options.keep is not None:
            raise KeepOutOfRange(f"{options.keep} with average {options.average}")
        check_keep(options.average)
    keep = options.keep
    for one in keep if isinstance(keep, Sequence) and not isinstance(keep, str) else [keep]:
        if one is not None:
            check_keep(one)


@dataclass(frozen=True)
class _Planned:
    """What configuration and options make of a model, before any weight is there."""

    cut: CutModel
    layers: int | None
    """Layers that will be checked; None: all."""
    graphs: tuple[NeutralGraph, ...]
    lowered: tuple[tuple[str, str, ir.Model], ...]
    """Target, name and model of every graph file."""


@dataclass(frozen=True)
class _Written:
    """Files of the bundle, and what the manifest says of them."""

    weights: FileRecord
    graphs: tuple[GraphRecord, ...]
    tokenizer: FileRecord
    language: LanguageRecord


class _Export:
    def __init__(
        self,
        opened: ModelFolder,
        source: ModelSource,
        recipe: Recipe,
        options: ExportOptions,
        quantized: WeightsRecord | None,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.opened = opened
        self.source = source
        self.recipe = recipe
        self.options = options
        self.targets = options.targets or ()
        self.quantized = quantized
        self.generation = opened.generation()
        self.folder = folder
        self.progress = progress
        self.weights = WeightFile(options.dtype)
        self.fake = FakeTensorMode()

    def run(self) -> Manifest:
        for note in self.opened.notes:
            self.progress.note(note)
        planned = self._plan()
        checkpoint = self._fetch(planned.cut)
        written = self._write(planned, checkpoint)
        golden = self._ask_pytorch(planned, checkpoint, written.language)
        return self._check(self._manifest(planned.cut.plan, written, golden))

    def _plan(self) -> _Planned:
        """Everything that can be refused or traced without a weight."""
        options = self.options
        with self.fake:
            cut = cut_model(
                self.opened,
                self.recipe,
                dtype=options.dtype,
                keep=options.keep,
                average=options.average,
                context=options.context,
            )
            layers = self._check_early(cut)
            graphs = tuple(self._trace(cut))
        lowered = tuple(
            (target, graph.name, lower(graph, make_target(target)))
            for target in self.targets
            for graph in graphs
        )
        return _Planned(cut, layers, graphs, lowered)

    def _check_early(self, cut: CutModel) -> int | None:
        """Refuse what cannot be; layers that will be checked."""
        keys = index_keys(self.opened.folder)
        if keys is not None and self.source.hub is not None:
            check_index(self.opened.folder, keys, cut.family, cut.model, *cut.parts)
        if self.quantized is not None:
            cut.check_blocks(self.quantized)
        context, told = cut.language.context, cut.language.config.max_position_embeddings
        if self.options.context is None and context < told:
            self.progress.note(
                f"prompt and answer may have {context} tokens, not the {told} of config.json: "
                "beyond that, attention or positions of the decoder depend on the length"
            )
        return checked_layers(self.options.check, cut.plan, cut.parameters)

    def _trace(self, cut: CutModel) -> Iterator[NeutralGraph]:
        shrinks = self.opened.preprocessing.shrinks
        for graph in (
            *vision_graphs(cut.vision, cut.video, cut.recipe.vision, cut.language, shrinks),
            *language_graphs(cut.language, cut.plan),
        ):
            self.progress.step(f"tracing {graph.spec.name}")
            yield neutral_graph(graph, self.quantized)

    def _fetch(self, cut: CutModel) -> Checkpoint:
        """The weights, downloaded where they are on the hub; those of this model."""
        if self.source.hub is not None:
            self.progress.step("downloading the weights")
        self.source.fetch_weights()
        family = self.opened.family
        checkpoint = Checkpoint(self.opened.folder, family.canonical_name)
        with self.fake:
            check_checkpoint(checkpoint, family, cut.model, *cut.parts)
        return checkpoint

    def _write(self, planned: _Planned, checkpoint: Checkpoint) -> _Written:
        """Weights, graphs and tokenizer."""
        family, cut = self.opened.family, planned.cut
        with self.fake:
            finder = WeightPlaces(family, cut.model, checkpoint, self.weights, self.quantized)
            places = {graph.name: finder.of(graph) for graph in planned.graphs}
        embedding, separator = family.embedding_name(), family.separator_name()
        for name in (embedding, separator):
            if name is not None:
                self.weights.weight(name, checkpoint.shape(name))
        weights = self._write_weights(checkpoint)
        records = [
            self._write_graph(model, name, target, places[name])
            for target, name, model in planned.lowered
        ]
        if planned.layers is not None:
            width = cut.language.config.hidden_size
            records += [
                self._write_check_graph(target, planned.layers, width) for target in self.targets
            ]
        language = language_record(
            cut.language, embedding, separator, self.options.dtype, self.quantized
        )
        return _Written(weights, tuple(records), self._write_tokenizer(), language)

    def _ask_pytorch(
        self, planned: _Planned, checkpoint: Checkpoint, language: LanguageRecord
    ) -> Golden:
        """What PyTorch answers to the golden sample."""
        self.progress.step("running PyTorch on the golden sample")
        golden = make_golden(
            self.opened,
            checkpoint,
            planned.cut.recipe,
            planned.cut.plan,
            language,
            planned.layers,
            self.weights if self.quantized is not None else None,
            self.folder,
            self.progress.fraction,
        )
        give_back()
        return golden

    def _manifest(self, plan: Plan, written: _Written, golden: Golden) -> Manifest:
        files = [file_record(self.folder, name) for name in (golden.image, golden.tensors)]
        source, family = self.source, self.opened.family
        return Manifest(
            schema=SCHEMA,
            vtp=__version__,
            model=ModelRecord(id=source.id, revision=source.revision, family=family.name),
            plan=plan,
            graphs=written.graphs,
            weights=written.weights,
            language=written.language,
            preprocessing=self.opened.preprocessing,
            prompt=self.opened.prompt,
            generation=self.generation,
            files=(written.tokenizer, *files),
            golden=golden,
        )

    def _write_weights(self, checkpoint: Checkpoint) -> FileRecord:
        self.progress.step("writing weights")
        total = self.weights.nbytes()
        check_room(self.folder, total)
        try:
            sha256, size = self.weights.write(
                self.folder, checkpoint, lambda done: self.progress.fraction(done, total)
            )
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # Somebody else took the room meanwhile.
            raise DiskFull(self.folder, total, shutil.disk_usage(self.folder).free) from error
        path = self.folder / self.weights.file_name
        check_samples(path, self.weights.stored(), checkpoint)
        return FileRecord(file=path.name, sha256=sha256, bytes=size)

    def _write_graph(
        self, model: ir.Model, name: str, target: str, places: Mapping[str, str]
    ) -> GraphRecord:
        self.weights.place_initializers(model, places)
        ir.save(model, self.folder / graph_file(name, target))
        return graph_record(self.folder, name, target, model)

    def _write_check_graph(self, target: str, layers: int, width: int) -> GraphRecord:
        source = graph_file(language_graph(0), target)
        model = cut_graph(
            self.folder / source, layers, width, self.folder / graph_file(CHECK, target)
        )
        return graph_record(self.folder, CHECK, target, model)

    def _write_tokenizer(self) -> FileRecord:
        self.opened.save_tokenizer(self.folder / "tokenizer.json")
        return file_record(self.folder, "tokenizer.json")

    def _check(self, manifest: Manifest) -> Manifest:
        """Replay the golden sample on every target, and note what was measured."""
        path = self.folder / FILE_NAME
        path.write_text(manifest.to_json(), encoding="utf-8")
        measured = []
        for target in self.targets:
            self.progress.step(f"checking target {target} against PyTorch")
            try:
                measured += self._replay(target)
            except VerifyFailed as error:
                raise ParityFailed(error.graph, error.measured, error.tolerance) from error
        manifest = _with_measured(manifest, measured)
        path.write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def _replay(self, target: str) -> list[Deviation]:
        # Its files were hashed as they were written.
        if self.options.dtype != "bfloat16":
            return verify_bundle(Bundle(self.folder), "cpu", choice=target, verify=False)[1]
        with widened_copy(self.folder) as copy:
            return verify_bundle(Bundle(copy), "cpu", choice=target, verify=False)[1]


def _with_measured(manifest: Manifest, measured: list[Any]) -> Manifest:
    return replace(manifest, golden=replace(manifest.golden, measured=tuple(measured)))
