"""What the manifest says of engines that were built of a bundle's graphs."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ManifestInvalid


@dataclass(frozen=True, kw_only=True)
class LimitsRecord:
    """The largest request that built engines take."""

    tokens: int
    """Most tokens of a conversation in the first language stage: text, image tokens, answer."""
    images: int
    """Most images of a turn."""
    frames: int
    """Most frames of a video; 0: videos are not built for."""
    tiles: int
    """Most tiles of one image, or frames of a video that the tower looks at."""
    rows: int
    """Most image tokens of one image or video as the prompt reads them, before any is dropped."""
    separators: int
    """Most rows among them that are no patch of a tile: separators and [CLS]."""
    counts: tuple[int, ...]
    """Most image tokens of one tile that are left after each drop of the plan."""
    image_tokens: int
    """Most image tokens of one tile before any is dropped."""
    parts: int = 1
    """Of an image or video, how many tiles or frames stand in the prompt by themselves, at most;
    1: it stands there as a whole."""

    @property
    def placed(self) -> int:
        """Images, and tiles and frames that stand by themselves, of a turn."""
        return self.images * self.parts

    def __post_init__(self) -> None:
        sizes = (self.tokens - 1, self.images, self.parts, self.tiles, self.rows, self.image_tokens)
        least = min(*sizes, self.frames + 1, self.separators + 1, *self.counts)
        if least < 1:
            raise ManifestInvalid("variants.limits", f"{self} allows nothing")


@dataclass(frozen=True, kw_only=True)
class EngineRecord:
    """One built engine."""

    graph: str
    """Name of the graph that it was built from."""
    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class VariantRecord:
    """The graphs of the bundle as engines of one library, for some cards."""

    name: str
    engine: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    version: str
    """Of the library; engines of another one are not loaded."""
    machine: str
    """Processor architecture that they were built on, such as ``x86_64`` or ``aarch64``."""
    target: str
    """Flavour of the graphs."""
    compute_capabilities: tuple[str, ...]
    """Cards that they run on, such as ``8.7``; empty: what the library takes without being told."""
    cuda: str | None
    """CUDA version of the library, where it is known."""
    topk: str
    """How tokens are selected: ``plugin`` or ``native``; ``none`` where nothing is."""
    plugin: str | None
    """Version of the plugin, where there is one."""
    limits: LimitsRecord
    engines: tuple[EngineRecord, ...]

    def record(self, graph: str) -> EngineRecord:
        """The engine of a graph.

        Raises:
            ManifestInvalid: there is none.
        """
        for engine in self.engines:
            if engine.graph == graph:
                return engine
        raise ManifestInvalid(f"variants.{self.name}", f"there is no engine of graph {graph!r}")
