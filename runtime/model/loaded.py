"""A bundle with its graphs loaded on an engine: what answering needs."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet

import numpy as np

from ...errors import AlreadyClosed
from ..bundle.bundle import TOKENIZER, Bundle
from ..bundle.contract import BEFORE_STAGES, drop_graph, language_graph
from ..bundle.plan import Extent
from ..engines import make_engine
from ..engines.base import Engine, Graph
from ..engines.capacity import capacities, check_request
from .decoder import Decoder
from .tokenizer import Text
from .vision import Vision, vision_graphs

if TYPE_CHECKING:
    from typing_extensions import Self


_Part = TypeVar("_Part")


class Closable(Protocol):
    """What holds memory of an engine."""

    def close(self) -> None:
        """Release it."""


class LoadedBundle:
    """The parts of a bundle, ready to run, until ``close``.

    Whoever runs its graphs holds ``lock`` meanwhile; tokens and images may be made without.

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
        self._closed, self._closing = False, Lock()
        self._users: WeakSet[Closable] = WeakSet()
        self._engine: Engine | None = made
        self.lock = made.lock()
        """Taken around every run of graphs."""
        self.source = made.source(bundle, choice)
        self.target = self.source.target
        self.max_pixels = max_pixels
        with self.source.verified(verify):
            self.text = Text(bundle.file(TOKENIZER))
            plan, language = manifest.plan, manifest.language
            looking = vision_graphs(manifest, lambda name: self._load(name, followed=True))
            self._vision: Vision | None = Vision(made, plan, language.row_width(0), looking)
            names = [language_graph(number) for number in range(len(plan.stages))]
            names += [drop_graph(number) for number in range(1, len(plan.stages))]
            held = {record.name for record in manifest.graphs}
            names += [kind.name for kind in BEFORE_STAGES if kind.name in held]
            staged = len(names) > 1
            graphs = {name: self._load(name, followed=staged) for name in names}
            table = bundle.embedding_table()
            limits = self.source.limits
            room = None if limits is None else capacities(plan, limits)
            row = bundle.separator_row()
            self._decoder: Decoder | None = Decoder(made, plan, language, table, graphs, room, row)

    @property
    def engine(self) -> Engine:
        """What runs the graphs."""
        return self._open(self._engine)

    @property
    def vision(self) -> Vision:
        """The vision graphs."""
        return self._open(self._vision)

    @property
    def decoder(self) -> Decoder:
        """The language graphs."""
        return self._open(self._decoder)

    def _open(self, part: _Part | None) -> _Part:
        if part is None or self._closed:
            raise AlreadyClosed("pipeline")
        return part

    def check_open(self) -> None:
        """Refuse what comes after ``close``.

        Raises:
            AlreadyClosed: it has been closed.
        """
        self._open(self._engine)

    def closes_with_it(self, user: Closable) -> None:
        """Close ``user`` too, if it still exists then."""
        with self._closing:
            self.check_open()
            self._users.add(user)

    def close(self) -> None:
        """Release graphs, caches and device memory, after the step that is running; every later
        call raises ``AlreadyClosed``. Closing twice is no error."""
        with self._closing:
            # From now on nothing new begins.
            self._closed, users = True, list(self._users)
        for user in users:
            user.close()
        with self.lock:
            engine, self._engine = self._engine, None
            self._vision = self._decoder = None
            device = None if engine is None else engine.device()
            del engine
            if device is not None:
                device.give_back()

    def __enter__(self) -> Self:
        self.check_open()
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

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
