"""Engines for the stand-in of TensorRT, as ``vtp build`` would make them for TensorRT itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.manifest import Manifest
from vtp.runtime.bundle.variants import EngineRecord, LimitsRecord, VariantRecord
from vtp.runtime.engines.capacity import BuildSizes, make_limits, ranges
from vtp.runtime.engines.tensorrt import engine as adapter
from vtp.runtime.engines.tensorrt.flavours import FLAVOURS, machine

from . import stand_in_tensorrt as stand_in


@dataclass(frozen=True)
class StandIn:
    """The flavour ``tensorrt``."""

    name: str = "tensorrt"
    module: str = "stand_in"
    install: str = ""
    builds_for_other_cards: bool = False

    def installed(self) -> bool:
        return True

    def load(self) -> Any:
        return stand_in


@contextmanager
def in_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[stand_in.RecordedMemory]:
    """The stand-in in the library's place; gives its memory."""
    memory = stand_in.RecordedMemory()
    monkeypatch.setattr(stand_in, "MEMORY", memory)
    monkeypatch.setitem(FLAVOURS, "tensorrt", StandIn())
    monkeypatch.setattr(adapter, "shared_cuda", lambda _: memory)
    monkeypatch.setattr(adapter.cuda_memory, "missing", lambda: None)
    adapter._library.cache_clear()
    yield memory
    adapter._library.cache_clear()


def add_variant(
    bundle: Path,
    target: str,
    *,
    name: str = "tensorrt",
    topk: str = "native",
    keep: Any = None,
    tokens: int | None = 400,
) -> VariantRecord:
    """Add a variant whose engines are read by the stand-in."""
    opened = Bundle(bundle)
    manifest = opened.manifest
    limits = make_limits(
        manifest, BuildSizes(tokens=tokens, images=2 if keep is None else 1, keep=keep)
    )
    (bundle / "engines" / name).mkdir(parents=True)
    engines = []
    for graph in (g for g in manifest.graphs if g.target == target):
        data = _engine(opened, manifest, limits, graph)
        file = f"engines/{name}/{graph.name}.engine"
        (bundle / file).write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        engines.append(EngineRecord(graph=graph.name, file=file, sha256=sha256, bytes=len(data)))
    variant = VariantRecord(
        name=name,
        engine="tensorrt",
        version=stand_in.__version__,
        machine=machine(),
        target=target,
        compute_capabilities=(),
        cuda=None,
        topk=topk,
        plugin=None,
        limits=limits,
        engines=tuple(engines),
    )
    opened.rewrite(replace(manifest, variants=(*manifest.variants, variant)))
    return variant


def _engine(opened: Bundle, manifest: Manifest, limits: LimitsRecord, graph: Any) -> bytes:
    profiles = []
    values: dict[str, Any] = {}
    for decoding in (False, True) if graph.name.startswith("language") else (False,):
        sizes, values = ranges(manifest.plan, limits, graph.name, decoding)
        profile = {}
        for spec in graph.inputs:
            each = [sizes[d] if isinstance(d, str) else (d,) * 3 for d in spec.shape]
            profile[spec.name] = [[low for low, _, _ in each], [high for _, _, high in each]]
        profiles.append({n: p for n, p in profile.items() if n not in values})
    host = [spec.name for spec in graph.inputs if spec.name in values]
    return stand_in.engine_file(opened.file(graph.file), profiles, host)
