"""``vtp export``: from a model to a checked bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from safetensors.numpy import save_file
from torch._subclasses.fake_tensor import FakeTensorMode

from .. import __version__
from ..errors import KeepOutOfRange, ModelNotSupported, ParityFailed, VerifyFailed
from ..runtime.manifest import (
    FILE_NAME,
    SCHEMA,
    FileRecord,
    GenerationDefaults,
    Golden,
    GoldenCase,
    GraphRecord,
    LanguageRecord,
    Manifest,
    ModelRecord,
    TensorSpec,
)
from ..runtime.pipeline import load
from ..runtime.plan import Keep, Plan, Stage, check_keep, keep_count
from ..runtime.text import Text
from ..runtime.verify import replay
from .attention import use_traced_attention
from .checkpoint import Checkpoint
from .families.base import LanguageParts, VisionParts
from .graphs import GraphMaker, TracedGraph
from .methods import method_class
from .methods.base import Method
from .model_folder import ModelFolder
from .output import replace_folder
from .reference import (
    PROMPT,
    Reference,
    golden_tensors,
    load_torch_model,
    reference,
    sample_image,
)
from .source import find_model
from .targets import TARGETS, make_target
from .weights import WeightFile

TOLERANCE = 1e-3
"""Largest accepted difference from PyTorch, relative to the largest magnitude of a tensor."""


class Progress:
    """What an export tells about its progress; the command line draws it."""

    def step(self, text: str) -> None:
        """A step begins."""

    def fraction(self, done: int, total: int) -> None:
        """Part of the step that is done."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What to export, and how."""

    method: str = "fastervlm"
    parameters: dict[str, Any] = field(default_factory=dict)
    """Parameters of the method, such as ``{"seed": 1}``."""
    keep: Keep | None = None
    """Default keep of the bundle; None takes the method's."""
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
    method = method_class(options.method)(**options.parameters)
    keep: Keep = method.default_keep if options.keep is None else options.keep
    check_keep(keep)
    with replace_folder(Path(out), options.force) as folder:
        progress.step("reading the model")
        source = find_model(model, options.revision)
        opened = ModelFolder(source.folder)
        return _Export(opened, source.id, source.revision, method, keep, folder, progress).run()


class _Export:
    def __init__(
        self,
        opened: ModelFolder,
        model_id: str,
        revision: str | None,
        method: Method,
        keep: Keep,
        folder: Path,
        progress: Progress,
    ) -> None:
        self.opened = opened
        self.model = ModelRecord(id=model_id, revision=revision, family=opened.family.name)
        self.method = method
        self.keep = keep
        self.generation = GenerationDefaults(**opened.generation())
        self.folder = folder
        self.progress = progress
        self.checkpoint = Checkpoint(opened.folder, opened.family.canonical_name)
        self.weights = WeightFile()

    def run(self) -> Manifest:
        family, config = self.opened.family, self.opened.config
        with FakeTensorMode():
            model = family.make(config).eval()
            use_traced_attention(model)
            vision, language = family.vision(model), family.language(model)
            check_keep(self.keep, vision.tokens)
            if not self.method.prunes and keep_count(self.keep, vision.tokens) < vision.tokens:
                raise KeepOutOfRange(self.keep, vision.tokens, prunes=False)
            self._check_size(vision)
            maker = GraphMaker(family, model, self.checkpoint, self.weights)
            graphs = [
                (name, graph)
                for name in TARGETS
                for graph in self._trace(maker, vision, language, name)
            ]
        embedding = family.embedding_name()
        self.weights.weight(embedding, self.checkpoint.shape(embedding))
        weights = self._write_weights()
        records = [self._write_graph(graph, target) for target, graph in graphs]
        tokenizer = self._write_tokenizer()
        plan = self._plan(vision, language)
        golden, files = self._golden(plan)
        manifest = Manifest(
            schema=SCHEMA,
            vtp=__version__,
            model=self.model,
            plan=plan,
            graphs=tuple(records),
            weights=weights,
            language=_language_record(language, embedding),
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
        self, maker: GraphMaker, vision: VisionParts, language: LanguageParts, target_name: str
    ) -> Iterator[TracedGraph]:
        target = make_target(target_name)
        self.progress.step(f"tracing vision for {target_name}")
        yield maker.vision(vision, self.method, language.config.hidden_size, target)
        self.progress.step(f"tracing language.0 for {target_name}")
        yield maker.language(language, 0, len(language.layers), 0, target)

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

    def _plan(self, vision: VisionParts, language: LanguageParts) -> Plan:
        return Plan(
            method=self.method.name,
            parameters=self.method.parameters(),
            prunes=self.method.prunes,
            score_layer=len(vision.layers) - 1 if self.method.needs_cls else None,
            tokens=vision.tokens,
            grid=vision.grid,
            keep=self.keep,
            positions=self.method.positions,
            stages=(Stage(first=0, stop=len(language.layers)),),
        )

    def _golden(self, plan: Plan) -> tuple[Golden, list[FileRecord]]:
        self.progress.step("running PyTorch on the golden sample")
        image, layout = sample_image(), self.opened.prompt
        image.save(self.folder / "golden.png")
        prompt = Text(self.folder / "tokenizer.json").encode(layout.render_turn(PROMPT, 1, True))
        pixels = self.opened.preprocessing([image])
        model = load_torch_model(self.opened.config, self.opened.folder)
        parts = self.opened.family.vision(model)
        keeps: list[Keep] = [1.0, self.keep] if plan.count(None) < plan.tokens else [1.0]
        cases: list[Reference] = []
        for done, keep in enumerate(keeps):
            self.progress.fraction(done, len(keeps))
            cases.append(
                reference(model, parts, self.method, pixels, prompt, layout.image_token_id, keep)
            )
        tensors = self.folder / "golden.safetensors"
        save_file(dict(golden_tensors(cases)), tensors)
        tensors.chmod(0o644)  # as every other file; the library writes for the owner alone
        golden = Golden(
            image="golden.png",
            prompt=PROMPT,
            tensors="golden.safetensors",
            tolerance=TOLERANCE,
            cases=tuple(GoldenCase(keep=case.keep, tokens=case.tokens) for case in cases),
            measured=(),
        )
        return golden, [self._file("golden.png"), self._file("golden.safetensors")]

    def _check(self, manifest: Manifest) -> Manifest:
        """Replay the golden sample on every target, and note what was measured."""
        path = self.folder / FILE_NAME
        path.write_text(manifest.to_json(), encoding="utf-8")
        measured = []
        for target in TARGETS:
            self.progress.step(f"checking target {target} against PyTorch")
            try:
                measured += replay(load(self.folder, "cpu", target=target))
            except VerifyFailed as error:
                raise ParityFailed(error.graph, error.measured, error.tolerance) from error
        manifest = _with_measured(manifest, measured)
        path.write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def _file(self, name: str) -> FileRecord:
        data = (self.folder / name).read_bytes()
        return FileRecord(file=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _with_measured(manifest: Manifest, measured: list[Any]) -> Manifest:
    return replace(manifest, golden=replace(manifest.golden, measured=tuple(measured)))


def _language_record(language: LanguageParts, embedding: str) -> LanguageRecord:
    config = language.config
    return LanguageRecord(
        layers=len(language.layers),
        heads=config.num_attention_heads,
        kv_heads=language.kv_heads,
        head_dim=language.head_dim,
        width=config.hidden_size,
        vocab=config.vocab_size,
        context=language.context,
        embedding=embedding,
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
