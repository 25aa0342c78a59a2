"""Engines: what runs a graph. One file each; a new engine is a file and a row here."""

from __future__ import annotations

from ...errors import EngineUnavailable, EngineUnknown
from ...registry import load_row
from ..bundle.manifest import Manifest
from .base import Engine

ENGINES: dict[str, str] = {
    "tensorrt": "tensorrt.engine:TensorRt",
    "tensorrt-rtx": "tensorrt.engine:TensorRtRtx",
    "cuda": "onnxruntime.cuda:OnnxRuntimeCuda",
    "cpu": "onnxruntime.cpu:OnnxRuntimeCpu",
}
"""In order of preference: ``auto`` takes the first that can run here."""


def engine_class(name: str) -> type[Engine]:
    """The class of an engine.

    Raises:
        EngineUnknown: no such engine.
    """
    if name not in ENGINES:
        raise EngineUnknown(name, ["auto", *ENGINES])
    found: type[Engine] = load_row(ENGINES[name], __name__)
    return found


def why_not(name: str, manifest: Manifest) -> str | None:
    """Why an engine cannot run a bundle here; None if it can."""
    cls = engine_class(name)
    return cls.missing() or cls.refuses(manifest)


def make_engine(name: str, manifest: Manifest, threads: int | None = None) -> Engine:
    """An engine that can run a bundle.

    Args:
        name: a key of ``ENGINES``, or ``auto``.
        manifest: the bundle's.
        threads: CPU threads; None lets the engine choose.

    Raises:
        EngineUnknown: no such engine.
        EngineUnavailable: it cannot run here, with the reason.
    """
    if name != "auto":
        reason = why_not(name, manifest)
        if reason is not None:
            raise EngineUnavailable(name, reason)
        return engine_class(name)(threads)
    reasons = {key: why_not(key, manifest) for key in ENGINES}
    for key, reason in reasons.items():
        if reason is None:
            return engine_class(key)(threads)
    raise EngineUnavailable("auto", "; ".join(f"{key}: {why}" for key, why in reasons.items()))
