"""What a build process is told, and what it says: one line of JSON each (see ``strict``)."""

from __future__ import annotations

from dataclasses import dataclass, field

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input name -> least, typical and largest shape; of an input that holds a size, values."""


@dataclass(frozen=True, kw_only=True)
class BuildJob:
    """One engine to build."""

    flavour: str
    graph: str
    """ONNX file as the parser shall read it, its weights beside it."""
    engine: str
    """File to write."""
    profiles: tuple[Shapes, ...]
    plugin: bool
    """Whether the selection is the plugin; else its function body."""
    capabilities: tuple[str, ...] = ()
    """Compute capabilities, such as ``8.9``; none for the card that is here."""
    timing_cache: str | None = None
    """File with what earlier builds measured, read and written; None for none."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What became of it."""

    error: str | None = None
    """What TensorRT says, where the build failed."""
    bytes: int = 0
    ends: dict[str, str] = field(default_factory=dict)
    """Type of every input and output of the network, as numpy names it."""
    selections: tuple[str, ...] = field(default=())
    """For each selection of the graph how the engine does it: ``plugin`` or ``native``."""
