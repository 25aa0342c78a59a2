"""What an engine is to the pipeline: buffers, graphs, and runs bound to named buffers.

Memory belongs to the engine. A run is bound once to its buffers and repeated, so that the decode
loop moves nothing but one embedding row in and one row of logits out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, ClassVar

import numpy as np

from ..bundle.bundle import Bundle
from ..bundle.manifest import DTYPES, FORMS, Manifest
from ..bundle.sources import GraphSource, Source
from .device import Device


class Buffer(ABC):
    """Memory of an engine with a shape and a type."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def write(self, values: np.ndarray) -> None:
        """Fill the buffer from an array of its shape."""

    @abstractmethod
    def read(self) -> np.ndarray:
        """The content as an array, which the next run may overwrite."""

    @abstractmethod
    def rows(self, start: int, stop: int) -> Buffer:
        """Rows ``start .. stop - 1`` along axis 1 of a buffer of one item, as a buffer of the same
        memory."""

    @abstractmethod
    def write_rows(self, at: int, rows: np.ndarray) -> None:
        """Put ``rows (n, dim)`` into item 0 from row ``at`` on."""

    @abstractmethod
    def copy_rows(self, at: int, source: Buffer, start: int, count: int) -> None:
        """Put ``count`` rows of ``source``, its items laid one after the other, from its row
        ``start`` on into item 0 from row ``at`` on, on the device."""


class ArrayBuffer(Buffer):
    """A buffer in host memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def write(self, values: np.ndarray) -> None:
        self.array[...] = values

    def read(self) -> np.ndarray:
        return self.array

    def rows(self, start: int, stop: int) -> Buffer:
        return type(self)(self.array[:, start:stop])

    def write_rows(self, at: int, rows: np.ndarray) -> None:
        self.array[0, at : at + len(rows)] = rows

    def copy_rows(self, at: int, source: Buffer, start: int, count: int) -> None:
        rows = source.read()
        self.write_rows(at, rows.reshape(-1, rows.shape[-1])[start : start + count])


class Run(ABC):
    """A graph bound to buffers."""

    @abstractmethod
    def __call__(self) -> None:
        """Run once; whoever reads the outputs' buffers, or runs on them, finds them filled."""


class Graph(ABC):
    """A loaded graph."""

    inputs: tuple[str, ...]
    """Names of its inputs."""
    outputs: tuple[str, ...]
    """Names of its outputs."""

    @abstractmethod
    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> Run:
        """Bind every input and output; a buffer bound as both is updated in place. The run keeps
        the buffers alive."""


@dataclass(frozen=True, kw_only=True)
class OperatorEvent:
    """One run of one operator, as the engine's own profiler saw it."""

    graph: str
    """File of the graph."""
    operator: str
    """Its type, such as ``MatMul``."""
    node: str
    start_ns: int
    """By the clock of the system, nanoseconds since 1970."""
    ms: float


class Engine(ABC):
    """Loads graphs and owns memory.

    Args:
        threads: CPU threads; None lets the engine choose.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    frugal: bool = False
    """Whether graphs are loaded in little memory rather than made fast, where that can be had."""
    targets: tuple[str, ...]
    """Targets that it runs, the best first; an instance may know that it runs fewer."""
    dtypes: ClassVar[tuple[str, ...]] = tuple(DTYPES)
    """Types of weights that it computes in."""
    forms: ClassVar[tuple[str, ...]] = FORMS
    """Types of quantized matrix products that it computes."""

    @abstractmethod
    def __init__(self, threads: int | None = None) -> None: ...

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """What is missing to run here, with the way to get it; None if nothing is."""

    @classmethod
    def refuses(cls, manifest: Manifest) -> str | None:
        """Why it cannot run a bundle, with what it would take; None if it can."""
        dtype = manifest.language.dtype
        if dtype not in cls.dtypes:
            return (
                f"it does not support {dtype}, the type of this bundle: export the model with "
                f"--dtype {' or '.join(cls.dtypes)}"
            )
        products = manifest.products
        if products is not None and products.form not in cls.forms:
            return (
                f"it does not support {products.form}, the type of this bundle's matrix products: "
                f"run it on TensorRT, or calibrate with --precision {' or '.join(cls.forms)}"
            )
        carried = manifest.targets()
        if set(cls.targets) & set(carried):
            return None
        return f"it runs graphs of target {' or '.join(cls.targets)}, not {', '.join(carried)}"

    def device(self) -> Device | None:
        """The device that it works on; None where that is the processor."""
        return None

    def profiled(self, folder: Path) -> Engine | None:
        """An engine like this one whose graphs note the time of every operator, which costs time
        itself; None where it has no profiler, or one that says something else.

        Args:
            folder: where it may put files.
        """
        return None

    def operators(self) -> list[OperatorEvent]:
        """What an engine from ``profiled`` noted; it notes nothing more."""
        return []

    def exact(self) -> Engine | None:
        """This engine without rounding of activations; None where it does not round any."""
        return None

    def choices(self, manifest: Manifest) -> list[str]:
        """What ``source`` may choose from, of what a bundle holds."""
        return [target for target in self.targets if target in manifest.targets()]

    def source(self, bundle: Bundle, choice: str | None = None) -> Source:
        """The files of a bundle that it loads.

        Args:
            bundle: the bundle.
            choice: one of ``choices``; None takes the best.

        Raises:
            ManifestInvalid, EngineError: there are none that it takes.
        """
        return GraphSource.choose(bundle, self.targets, choice)

    def lock(self) -> AbstractContextManager[Any]:
        """What is held while graphs of one loaded bundle run; may be entered again by the thread
        that holds it. Bundles share it where their runs share more than buffers that each has for
        itself: a stream, execution contexts, scratch memory."""
        return RLock()

    @abstractmethod
    def versions(self) -> str:
        """Library and device, for reports."""

    @abstractmethod
    def buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A new buffer, its content undefined."""

    @abstractmethod
    def load(self, path: Path, followed: bool = False) -> Graph:
        """Load a graph file.

        Args:
            path: the file.
            followed: another graph runs right after this one; its workers should not wait for
                more work meanwhile.

        Raises:
            EngineUnavailable: the engine does not take the graph.
        """
