"""What an engine loads of a bundle: graph files, or engines that were built of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ...errors import ManifestInvalid, VariantMissing
from .bundle import Bundle
from .keep import show_keeps
from .variants import LimitsRecord, VariantRecord


class Source(ABC):
    """Files of a bundle, one for each graph, of one target."""

    target: str
    choice: str
    """Name by which an engine chooses it: target, or variant."""
    limits: LimitsRecord | None = None
    """The largest request; None: whatever the model takes."""
    rebuild: str = ""
    """The command that makes the files anew."""

    @abstractmethod
    def file(self, graph: str) -> Path:
        """The file of a graph."""

    @abstractmethod
    def verified(self, all_files: bool) -> AbstractContextManager[None]:
        """Compare the files with their sha256, the long ones while the block runs.

        Args:
            all_files: or only those that must never be loaded otherwise.

        Raises:
            BundleError: one differs.
        """


class GraphSource(Source):
    """The ONNX graphs."""

    def __init__(self, bundle: Bundle, target: str) -> None:
        self._bundle = bundle
        self.target = self.choice = target

    @classmethod
    def choose(cls, bundle: Bundle, targets: tuple[str, ...], choice: str | None) -> GraphSource:
        """The graphs of the first of ``targets`` that the bundle carries, or of ``choice``.

        Raises:
            ManifestInvalid: it carries none.
        """
        wanted = [choice] if choice else targets
        carried = [name for name in wanted if name in bundle.manifest.targets()]
        if not carried:
            raise ManifestInvalid("graphs", f"there is no graph for target {wanted[0]!r}")
        return cls(bundle, carried[0])

    def file(self, graph: str) -> Path:
        return self._bundle.file(self._bundle.manifest.graph(graph, self.target).file)

    @contextmanager
    def verified(self, all_files: bool) -> Iterator[None]:
        if not all_files:
            yield
            return
        with self._bundle.verified(self.target):
            yield


class VariantSource(Source):
    """Engines that ``vtp build`` made."""

    def __init__(self, bundle: Bundle, variant: VariantRecord) -> None:
        self._bundle = bundle
        self._variant = variant
        self.target, self.choice = variant.target, variant.name
        self.limits = variant.limits
        self.rebuild = rebuild_command(bundle, variant)

    @staticmethod
    def choose(
        bundle: Bundle,
        engine: str,
        choice: str | None,
        mismatch: Callable[[Bundle, VariantRecord], Exception | None],
    ) -> VariantRecord:
        """The newest variant for an engine that fits, or the one called ``choice``.

        Raises:
            VariantMissing: there is none.
            Exception: what ``mismatch`` says of the newest, where none fits.
        """
        variants = bundle.manifest.variants
        found = [v for v in variants if v.engine == engine and choice in (None, v.name)]
        if not found:
            raise VariantMissing(bundle.path, engine, [v.name for v in variants])
        problems = [mismatch(bundle, variant) for variant in reversed(found)]
        for variant, problem in zip(reversed(found), problems, strict=True):
            if problem is None:
                return variant
        assert problems[0] is not None
        raise problems[0]

    def file(self, graph: str) -> Path:
        return self._bundle.file(self._variant.record(graph).file)

    @contextmanager
    def verified(self, all_files: bool) -> Iterator[None]:
        # An engine holds machine code: none is loaded but the one that was built.
        for record in self._variant.engines:
            problem = self._bundle.problem(record)
            if problem is not None:
                raise problem
        if not all_files:
            yield
            return
        with self._bundle.verified(self.target):
            yield


def rebuild_command(bundle: Bundle, variant: VariantRecord) -> str:
    """The ``vtp build`` command that made a variant."""
    limits, plan = variant.limits, bundle.manifest.plan
    words = [f"vtp build {bundle.path} --engine {variant.engine}"]
    words += [f"--compute-capability {card}" for card in variant.compute_capabilities]
    words.append(f"--max-tokens {limits.tokens}")
    if limits.images > 1:
        words.append(f"--max-images {limits.images}")
    sampling = bundle.manifest.preprocessing.sampling
    if sampling is not None and limits.frames != (sampling.count or 0):
        words.append(f"--max-frames {limits.frames}")
    if limits.image_tokens != plan.tokens:
        words.append(f"--max-image-tokens {limits.image_tokens}")
    if any(count < limits.image_tokens for count in limits.counts):
        words.append(f"--max-keep {show_keeps(limits.counts)}")
    if variant.topk == "native":
        words.append("--topk native")
    if variant.name != variant.engine:
        words.append(f"--name {variant.name}")
    return " ".join(words)
