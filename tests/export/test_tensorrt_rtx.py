"""Every graph of every method is parsed and built by TensorRT-RTX, which needs no card for it.

The bundles are those that the tests of the methods export. Inputs, outputs and their types are
compared with the manifest by the build itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtp.export.methods import METHODS
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.variants import VariantRecord
from vtp.runtime.engines.tensorrt import variant as building
from vtp.runtime.engines.tensorrt.variant import BuildOptions, build_variant

from .test_decoder_methods import CASES as DECODER_CASES
from .test_vision_methods import CASES as VISION_CASES

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")

# Name -> model, method, and options of the export.
BUNDLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: (case.variant, case.method, case.export) for name, case in DECODER_CASES.items()},
    **{
        "-".join([model, method, *options]): (model, method, {"positions": "original", **options})
        for model, method, options in VISION_CASES
    },
    "none": ("grouped-query", "none", {}),
    "guide": ("grouped-query", "guide", {"keep": None}),
    "float16": ("deep", "pyramiddrop", {"keep": None, "dtype": "float16"}),
    "bfloat16": ("grouped-query", "fastervlm", {"dtype": "bfloat16"}),
    "int4": ("deep", "pyramiddrop", {"keep": None, "dtype": "float16", "weights": "int4"}),
    "int8": ("grouped-query", "fastervlm", {"weights": "int8"}),
    **{
        model: (model, "fastervlm", {})
        for model in ("multi-head", "tied-head", "wide-heads", "llama3-rope", "mistral", "qwen2")
    },
}
WITHOUT_PLUGIN = ("fastv", "sparsevlm v1", "shallow-visionzip")
"""Built with TensorRT's own operators, too."""


def build(bundle: Path, target: str, topk: str, monkeypatch: pytest.MonkeyPatch) -> VariantRecord:
    """Build graphs of a target with TensorRT-RTX, those for TensorRT 10 too."""
    monkeypatch.setattr(building, "target_for", lambda *_: target)
    options = BuildOptions(
        engine="tensorrt-rtx",
        compute_capabilities=("8.9",),
        max_images=2,
        topk=topk,
        name=f"{target}-{topk}",
    )
    return build_variant(bundle, options)


def test_every_method_is_among_the_bundles() -> None:
    methods = {part for _, method, _ in BUNDLES.values() for part in method.split("+")}
    assert methods == set(METHODS)
    assert any(name.startswith(WITHOUT_PLUGIN[2]) for name in BUNDLES)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_every_graph_builds(
    exported: Callable[..., Path], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, method, options = BUNDLES[name]
    bundle = Path(shutil.copytree(exported(model, method, **options), tmp_path / "bundle"))
    manifest = Bundle(bundle).manifest
    ways = [("onnx", "plugin"), ("trt10", "plugin")]
    ways += [("onnx", "native")] if name.startswith(WITHOUT_PLUGIN) else []
    for target, topk in ways:
        variant = build(bundle, target, topk, monkeypatch)
        graphs = [graph.name for graph in manifest.graphs if graph.target == target]
        assert [engine.graph for engine in variant.engines] == graphs
        # What selects with the operator selects as asked; other sorting is TensorRT's own.
        assert topk in variant.topk or not manifest.plan.drops or method == "visionzip"
    Bundle(bundle).verify()
