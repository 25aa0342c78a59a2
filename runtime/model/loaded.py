"""A bundle with its graphs loaded on an engine: what answering needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..bundle.bundle import TOKENIZER, Bundle
from ..bundle.plan import Extent
from ..engines import make_engine
from ..engines.base import Engine, Graph
from ..engines.capacity import capacities, check_request
from .decoder import Decoder
from .tokenizer import Text
from .vision import Vision, vision_graphs


class LoadedBundle:
    """The parts of a bundle, ready to run.

    Args:
        bundle: the bundle.
        engine: name of an engine, or ``auto``; or the engine.
        threads: CPU threads; None lets the engine choose.
        choice: target of the graphs, or name of the variant; None takes the engine's best.
        max_pixels: most pixels of an input image.
        verify: compare every file with its sha256; one that differs is refused.
    """

    def __init__(
        self,
        bundle: Bundle,
        engine: str | Engine,
        threads: int | None,
        choice: str | None,
        max_pixels: int,
        verify: bool,
    ) -> None:
        self.bundle = bundle
        manifest = bundle.manifest
        made = engine if isinstance(engine, Engine) else make_engine(engine, manifest, threads)
        self.engine = made
        self.source = self.engine.source(bundle, choice)
        self.target = self.source.target
        self.max_pixels = max_pixels
        with self.source.verified(verify):
            self.text = Text(bundle.file(TOKENIZER))
            plan, language = manifest.plan, manifest.language
            looking = vision_graphs(manifest, lambda name: self._load(name, followed=True))
            self.vision = Vision(self.engine, plan, language.width, looking)
            names = [f"language.{number}" for number in range(len(plan.stages))]
            names += [f"drop.{number}" for number in range(1, len(plan.stages))]
            if any(r.name == "raters" for r in manifest.graphs):
                names.append("raters")
            staged = len(names) > 1
            graphs = {name: self._load(name, followed=staged) for name in names}
            table = bundle.embedding_table()
            limits = self.source.limits
            room = None if limits is None else capacities(plan, limits)
            row = bundle.separator_row()
            self.decoder = Decoder(self.engine, plan, language, table, graphs, room, row)

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Embedding rows ``(n, width)`` float32 of token ids ``(n,)``."""
        return self.decoder.embed(tokens)

    def check_request(self, counts: Sequence[int], extent: Extent) -> None:
        """Refuse a request that built engines do not take.

        Args:
            counts: image tokens left after each drop over all images.
            extent: the images of the turn.

        Raises:
            BeyondLimits: naming the limit and the command that builds for more.
        """
        source = self.source
        if source.limits is not None:
            plan = self.bundle.manifest.plan
            check_request(plan, source.limits, counts, extent, source.rebuild)

    def _load(self, name: str, followed: bool = False) -> Graph:
        return self.engine.load(self.source.file(name), followed)
