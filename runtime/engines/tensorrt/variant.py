"""Build the graphs of a bundle into engines, as a variant that lies in the bundle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ....errors import (
    BeyondLimits,
    BuildFailed,
    BuildKilled,
    OptionInvalid,
    TargetMissing,
)
from ....trt_plugins.launch import check_capabilities
from ....trt_plugins.topk_tokens import VERSION as PLUGIN_VERSION
from ...bundle.bundle import Bundle, sha256_of
from ...bundle.contract import is_language
from ...bundle.keep import Keeps
from ...bundle.manifest import GraphRecord, Manifest
from ...bundle.variants import EngineRecord, VariantRecord
from ...files.strict import read, write
from ...files.system_files import available_memory
from ..capacity import BuildSizes, Range, largest_candidates, largest_selection, make_limits, ranges
from .flavours import FLAVOURS, machine, target_for, version_of, with_unversioned_name
from .graphs import weight_bytes, write_for_tensorrt
from .job import BuildJob, BuildReport, Shapes

FOLDER = "engines"
"""Folder of the bundle that holds the variants."""
PLUGIN_LIMIT = 16384
"""Most tokens among which the plugin's kernel chooses."""
NATIVE_LIMIT = 3840
"""Most elements that TensorRT's own TopK gives."""
TOPK = ("plugin", "native")
CHILD = [sys.executable, "-m", f"{__package__}.child"]
"""The process that builds one engine."""
_PLUGIN_FIRST = (10, 7)
"""Version from which the parser takes a plugin before a function body."""
_SAME_WEIGHTS_TWICE = 1.3
_SMALL = 32 * 2**20
"""Weights below which the code of the kernels is most of an engine."""
# A build holds the weights as parsed, as laid out anew, and as serialized.
_COPIES = 3
_LIBRARY_BYTES = 10**9


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build."""

    engine: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    compute_capabilities: tuple[str, ...] = ()
    """Cards to build for, such as ``8.9``; none: the card that is here, or what the library takes
    without being told."""
    max_tokens: int | None = None
    """Most tokens of a conversation; None: the images, and 512 more."""
    max_images: int = 1
    """Most images of a turn."""
    max_frames: int | None = None
    """Most frames of a video; None: as many as the model samples by itself, where that is one
    number."""
    max_image_tokens: int | None = None
    """Most image tokens of one image before any is dropped, where that depends on the image."""
    max_keep: Keeps | None = None
    """Largest keep; None: all tokens."""
    topk: str = "plugin"
    """How tokens are selected: ``plugin`` or ``native``."""
    name: str | None = None
    """Name of the variant; None takes the engine's."""


class BuildProgress:
    """What a build tells of itself; the command line draws it."""

    def step(self, text: str) -> None:
        """A step begins."""

    def warn(self, text: str) -> None:
        """Something that the user should know."""


def build_variant(
    path: str | Path, options: BuildOptions, progress: BuildProgress | None = None
) -> VariantRecord:
    """Build a variant; it is in the bundle complete, or not at all.

    A variant of the same name is replaced when the new one is complete.

    Args:
        path: the bundle.
        options: what to build.
        progress: told about every step.

    Raises:
        BundleError: the bundle is broken.
        EngineUnavailable: the library is not installed.
        TargetMissing: the bundle has no graphs that this version of the library takes.
        BeyondLimits: more than can be built.
        KernelUnavailable: the plugin's kernel does not run on one of the cards.
        BuildFailed, BuildKilled: naming the graph.
    """
    return _Build(Bundle(path), options, progress or BuildProgress()).run()


class _Build:
    def __init__(self, bundle: Bundle, options: BuildOptions, progress: BuildProgress) -> None:
        self.bundle, self.options, self.progress = bundle, options, progress
        self.flavour = FLAVOURS[options.engine]
        self.version = version_of(trt := self.flavour.load())
        self.version_text = str(trt.__version__)
        manifest = bundle.manifest
        self.target = target_for(options.engine, self.version)
        if self.target not in manifest.targets():
            raise TargetMissing(
                f"{options.engine} {self.version_text}", self.target, manifest.targets()
            )
        _check(options, self.flavour.builds_for_other_cards)
        self.limits = make_limits(
            manifest,
            BuildSizes(
                tokens=options.max_tokens,
                images=options.max_images,
                frames=options.max_frames,
                keep=options.max_keep,
                image_tokens=_most_of_an_image(options.max_image_tokens, manifest),
            ),
        )
        self._check_selection()
        self.name = options.name or options.engine
        self.graphs = [record for record in manifest.graphs if record.target == self.target]

    def run(self) -> VariantRecord:
        self.progress.step("checking the bundle's files")
        self.bundle.verify(self.target)
        with self._folder() as folder:
            engines, ways = [], set[str]()
            for number, graph in enumerate(self.graphs):
                record, report = self._build(graph, number, folder)
                engines.append(record)
                ways.update(report.selections)
            variant = self._record(tuple(engines), ways)
        self._enter(variant)
        return variant

    def _check_selection(self) -> None:
        plan = self.bundle.manifest.plan
        if self.options.topk == "plugin" and plan.drops:
            check_capabilities(self.options.compute_capabilities)
            among = largest_candidates(plan, self.limits)
            if among > PLUGIN_LIMIT:
                raise BeyondLimits(
                    "tokens among which the plugin selects",
                    among,
                    PLUGIN_LIMIT,
                    "build with --topk native, or for fewer images",
                )
        if self.options.topk == "plugin":
            return
        most = largest_selection(plan, self.limits)
        if most > NATIVE_LIMIT:
            raise BeyondLimits(
                "tokens that TensorRT's own TopK keeps",
                most,
                NATIVE_LIMIT,
                "build with --topk plugin, or with a smaller --max-keep",
            )

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        """A folder for the new engines that takes its place in the bundle if the block ends well.

        Engine files are named by their content, so the files of an older variant stay valid until
        the manifest names the new ones.
        """
        home = self.bundle.path / FOLDER / self.name
        made = not home.exists()
        home.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=home))
        try:
            yield work
            for file in work.glob("*.engine"):
                file.replace(home / file.name)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            if made:
                with suppress(OSError):  # they are not empty: all went well
                    home.rmdir()
                    home.parent.rmdir()

    def _build(
        self, graph: GraphRecord, number: int, folder: Path
    ) -> tuple[EngineRecord, BuildReport]:
        options, plan = self.options, self.bundle.manifest.plan
        source = self.bundle.file(graph.file)
        weights = weight_bytes(source)
        estimate, available = _LIBRARY_BYTES + _COPIES * weights, available_memory() or 0
        self.progress.step(
            f"building {graph.name} ({number + 1} of {len(self.graphs)}; about "
            f"{estimate / 1e9:.1f} GB of memory, {available / 1e9:.1f} GB free)"
        )
        if estimate > available:
            self.progress.warn(
                f"the build of {graph.name} may need more memory than is free; if it is killed, "
                "close other programs or add swap"
            )
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            place = Path(scratch)
            (place / "graph").mkdir()
            sizes, _ = ranges(plan, self.limits, graph.name)
            prefers_body = options.engine == "tensorrt" and self.version[:2] < _PLUGIN_FIRST
            path = write_for_tensorrt(
                source,
                place / "graph",
                sizes.get("capacity", (None,))[0],
                self.bundle.manifest.language.dtype,
                without_body=options.topk == "plugin" and prefers_body,
            )
            job = BuildJob(
                flavour=options.engine,
                graph=str(path),
                engine=str(place / "engine"),
                profiles=self._profiles(graph),
                plugin=options.topk == "plugin",
                capabilities=options.compute_capabilities,
                timing_cache=self._timing_cache(),
            )
            report = self._run(job, graph, place, estimate)
            digest = sha256_of(Path(job.engine))
            file = folder / f"{graph.name}.{digest[:16]}.engine"
            Path(job.engine).replace(file)
        _check_ends(graph, report, options.engine)
        if weights > _SMALL and report.bytes > _SAME_WEIGHTS_TWICE * weights:
            self.progress.warn(
                f"the engine of {graph.name} has {report.bytes / weights:.2f} times the bytes of "
                "its weights: the library may have stored some of them twice"
            )
        record = EngineRecord(
            graph=graph.name,
            file=f"{FOLDER}/{self.name}/{file.name}",
            sha256=digest,
            bytes=report.bytes,
        )
        return record, report

    def _profiles(self, graph: GraphRecord) -> tuple[Shapes, ...]:
        """Prefill, and of a language graph decode too."""
        plan = self.bundle.manifest.plan
        decodes = is_language(graph.name)
        return tuple(
            _profile(graph, *ranges(plan, self.limits, graph.name, decoding))
            for decoding in ((False, True) if decodes else (False,))
        )

    def _timing_cache(self) -> str | None:
        # TensorRT-RTX measures on the device, when an engine is loaded; it has none.
        if self.options.engine == "tensorrt-rtx":
            return None
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vtp"
        home.mkdir(parents=True, exist_ok=True)
        return str(home / f"timing-{self.version_text}.cache")

    def _run(self, job: BuildJob, graph: GraphRecord, place: Path, estimate: int) -> BuildReport:
        environment = with_unversioned_name(self.flavour, place)
        process = subprocess.Popen(
            CHILD,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        available = available_memory() or 0
        try:
            out, said = process.communicate(json.dumps(write(job)) + "\n")
        finally:
            if process.poll() is None:  # interrupted
                process.kill()
                process.wait()
        if process.returncode == -signal.SIGKILL:
            raise BuildKilled(graph.name, self.options.engine, estimate, available)
        lines = out.strip().splitlines()
        if process.returncode or not lines:
            reason = _reason(said) or f"its process ended with status {process.returncode}"
            raise BuildFailed(graph.name, self.options.engine, reason)
        report = read(BuildReport, json.loads(lines[-1]), "report")
        if report.error is not None:
            raise BuildFailed(graph.name, self.options.engine, _reason(said) or report.error)
        return report

    def _record(self, engines: tuple[EngineRecord, ...], ways: set[str]) -> VariantRecord:
        return VariantRecord(
            name=self.name,
            engine=self.options.engine,
            version=self.version_text,
            machine=machine(),
            target=self.target,
            compute_capabilities=self.options.compute_capabilities,
            cuda=self.flavour.cuda(),
            topk="+".join(sorted(ways)) or "none",
            plugin=PLUGIN_VERSION if "plugin" in ways else None,
            limits=self.limits,
            engines=engines,
        )

    def _enter(self, variant: VariantRecord) -> None:
        """Put the variant into the manifest, and remove the files that nothing names any more."""
        bundle = Bundle(self.bundle.path)
        others = [v for v in bundle.manifest.variants if v.name != variant.name]
        bundle.rewrite(replace(bundle.manifest, variants=(*others, variant)))
        named = {record.file for record in variant.engines}
        for file in (bundle.path / FOLDER / variant.name).glob("*.engine"):
            if f"{FOLDER}/{variant.name}/{file.name}" not in named:
                file.unlink()


def _most_of_an_image(given: int | None, manifest: Manifest) -> int:
    """Image tokens of the largest image that is built for.

    Raises:
        OptionInvalid: images are of any size and no limit is given, or they are of one and it is.
    """
    one, named = manifest.plan.tokens, "max-image-tokens"
    if manifest.any_size:
        if given is not None and given >= 1:
            return given
        raise OptionInvalid(
            named,
            given,
            "the maximum number of tokens of an image (--max-image-tokens N): with this model it "
            f"depends on the size of the image; the sample image has {one}",
        )
    if given not in (None, one):
        raise OptionInvalid(named, given, f"nothing: every image of this model has {one} tokens")
    return one


def _check(options: BuildOptions, for_other_cards: bool) -> None:
    if options.topk not in TOPK:
        raise OptionInvalid("topk", options.topk, " or ".join(TOPK))
    name = options.name or options.engine
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name[0] == ".":
        raise OptionInvalid("name", name, "letters, digits, - _ and .")
    for text in options.compute_capabilities:
        major, dot, minor = text.partition(".")
        if not (dot and major.isdigit() and minor.isdigit()):
            raise OptionInvalid("compute capability", text, "MAJOR.MINOR, such as 8.9")
    if options.compute_capabilities and not for_other_cards:
        raise OptionInvalid(
            "compute capability",
            ",".join(options.compute_capabilities),
            f"nothing: {options.engine} builds for the card of this machine",
        )


def _profile(graph: GraphRecord, sizes: Mapping[str, Range], values: Mapping[str, Range]) -> Shapes:
    shapes: Shapes = {}
    for spec in graph.inputs:
        of_each = [sizes[dim] if isinstance(dim, str) else (dim,) * 3 for dim in spec.shape]
        each = [values[spec.name]] if spec.name in values else of_each
        least, typical, most = (tuple(size[which] for size in each) for which in range(3))
        shapes[spec.name] = least, typical, most
    return shapes


def _check_ends(graph: GraphRecord, report: BuildReport, engine: str) -> None:
    """Refuse an engine that the runtime could not bind: a parser may leave out what it can."""
    wanted = {spec.name: spec.dtype for spec in (*graph.inputs, *graph.outputs)}
    if report.ends != wanted:
        differ = sorted(set(wanted.items()) ^ set(report.ends.items()))
        listed = ", ".join(f"{name} ({kind})" for name, kind in differ)
        raise BuildFailed(graph.name, engine, f"its inputs and outputs differ from ONNX: {listed}")


def _reason(said: str) -> str:
    """The first error that TensorRT logged, or else the last thing said, as one line."""
    lines = said.strip().splitlines() or [""]
    last = lines[-1].removeprefix("[!]")
    first = next((line.partition("[E]")[2] for line in lines if "[E]" in line), last)
    return " ".join(first.split())[:600]
