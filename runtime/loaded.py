"""A bundle with its graphs loaded on an engine: what answering needs."""

from __future__ import annotations

from contextlib import nullcontext

from ..errors import ManifestInvalid
from .bundle import TOKENIZER, Bundle
from .decoder import Decoder
from .engines import make_engine
from .engines.base import Graph
from .text import Text
from .vision import Vision


class LoadedBundle:
    """The parts of a bundle, ready to run.

    Args:
        bundle: the bundle.
        engine: name of an engine, or ``auto``.
        threads: CPU threads; None lets the engine choose.
        target: flavour of graph; None takes the engine's best that the bundle carries.
        max_pixels: most pixels of an input image.
        verify: compare every file with its sha256; one that differs is refused.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str,
        threads: int | None,
        target: str | None,
        max_pixels: int,
        verify: bool,
    ) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        self.engine = make_engine(engine, manifest.targets(), threads)
        wanted = [target] if target else self.engine.targets
        carried = [name for name in wanted if name in manifest.targets()]
        if not carried:
            raise ManifestInvalid("graphs", f"there is no graph for target {wanted[0]!r}")
        self.target = carried[0]
        self.max_pixels = max_pixels
        with bundle.verified(self.target) if verify else nullcontext():
            self.text = Text(bundle.file(TOKENIZER))
            plan, language = manifest.plan, manifest.language
            vision = self._load("vision", followed=True)
            self.vision = Vision(self.engine, plan, language.width, vision)
            names = [f"language.{number}" for number in range(len(plan.stages))]
            names += [f"drop.{number}" for number in range(1, len(plan.stages))]
            if any(r.name == "raters" for r in manifest.graphs):
                names.append("raters")
            staged = len(names) > 1
            graphs = {name: self._load(name, followed=staged) for name in names}
            table = bundle.embedding_table()
            self.decoder = Decoder(self.engine, plan, language, table, graphs)

    def _load(self, name: str, followed: bool = False) -> Graph:
        record = self.bundle.manifest.graph(name, self.target)
        return self.engine.load(self.bundle.file(record.file), followed)
