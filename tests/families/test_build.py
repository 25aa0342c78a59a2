"""Bundles of every family are built by TensorRT-RTX, which needs no card for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtp.runtime.bundle import Bundle
from vtp.runtime.tensorrt.variant import BuildOptions, build_variant

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")

COLUMN_MEAN = {"parameters": {"score": "column-mean"}}
BUNDLES: dict[str, dict[str, Any]] = {
    "llava_next": {},
    "video_llava": {},
    "llava_onevision": COLUMN_MEAN,
    "internvl": {},
}
"""Qwen's stand in ``test_qwen.py``."""


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_every_graph_builds(name: str, bundle_of: Callable[..., Path], tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(bundle_of(name, **BUNDLES[name]), tmp_path / "bundle"))
    options = BuildOptions(
        engine="tensorrt-rtx", compute_capabilities=("8.9",), max_images=5, name="built"
    )
    variant = build_variant(bundle, options)
    graphs = [graph.name for graph in Bundle(bundle).manifest.graphs if graph.target == "onnx"]
    assert [engine.graph for engine in variant.engines] == graphs
    assert {"video", "shrink"} & set(graphs) or name in ("llava_next", "internvl")
    Bundle(bundle).verify()
