"""The parts of a bundle that a model too large to be checked whole was checked on.

They are the vision graph and ``check.0``, the first language layers. No more than one of them is in
memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..bundle.bundle import TOKENIZER, Bundle
from ..bundle.contract import CHECK, SHRINK, language_graph
from ..bundle.plan import Extent, Plan
from ..engines import make_engine
from ..engines.base import Engine
from ..engines.capacity import capacities, check_request
from ..model.decoder import Decoder
from ..model.embedding import embedding_rows
from ..model.tokenizer import Text
from ..model.vision import Vision, vision_graphs


def few_layers(plan: Plan, layers: int) -> Plan:
    """The plan of the decoder that ends after ``layers`` layers, before the first drop in it."""
    drops = tuple(drop for drop in plan.drops if drop.layer == 0)
    return replace(plan, layers=layers, drops=drops, guide=None)


class CheckedLayers:
    """A bundle whose sample runs through the vision graph and the first language layers.

    Args:
        bundle: the bundle.
        engine: name of an engine, or ``auto``; or the engine.
        threads: CPU threads; None lets the engine choose.
        choice: target of the graphs, or name of the variant; None takes the engine's best.
        verify: compare every file with its sha256.
    """

    vision: Vision
    decoder: Decoder

    def __init__(
        self,
        bundle: Bundle,
        engine: str | Engine,
        threads: int | None,
        choice: str | None,
        verify: bool = True,
    ) -> None:
        self.bundle = bundle
        made = (
            engine if isinstance(engine, Engine) else make_engine(engine, bundle.manifest, threads)
        )
        made.frugal = True
        self.engine = made
        self.source = self.engine.source(bundle, choice)
        self.target = self.source.target
        with self.source.verified(verify):
            self.text = Text(bundle.file(TOKENIZER))
            self._table = bundle.embedding_table()

    def embed(self, tokens: np.ndarray) -> np.ndarray:
        """Embedding rows ``(n, width)`` float32 of token ids ``(n,)``."""
        return embedding_rows(self._table, tokens)

    def check_request(self, counts: Sequence[int], extent: Extent) -> None:
        """As that of ``LoadedBundle``."""
        plan, source = self.bundle.manifest.plan, self.source
        if source.limits is not None:
            check_request(plan, source.limits, counts, extent, source.rebuild)

    def graphs(self) -> Iterator[None]:
        """Load ``vision``, then ``decoder`` in its place."""
        manifest = self.bundle.manifest
        plan, language, layers = manifest.plan, manifest.language, manifest.golden.layers
        assert layers is not None
        looking = vision_graphs(manifest, lambda name: self.engine.load(self.source.file(name)))
        self.vision = Vision(self.engine, plan, language.row_width(0), looking)
        yield
        # The towers go; what makes tokens of others is small.
        shrinking = {kind: graph for kind, graph in looking.items() if kind == SHRINK}
        self.vision = Vision(self.engine, plan, language.row_width(0), shrinking)
        del looking
        few, limits = few_layers(plan, layers), self.source.limits
        check = {language_graph(0): self.engine.load(self.source.file(CHECK))}
        room = None if limits is None else capacities(plan, limits)[:1]
        record, row = language.first_layers(layers), self.bundle.separator_row()
        self.decoder = Decoder(self.engine, few, record, self._table, check, room, row)
        yield
        del self.decoder
