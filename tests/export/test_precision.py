"""float16 bundles: half the weights and half the cache, the same answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import vtp
from vtp.errors import ManifestInvalid, ParityFailed
from vtp.export import ExportOptions, export_model
from vtp.export.targets import TARGETS
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.manifest import Manifest
from vtp.runtime.files.tensorfile import TensorFile

STAGED = {"layers": (2,), "ratios": (0.5,), "positions": "original", "budget": "all"}
METHODS = (
    ("grouped-query", "fastervlm", {}),
    ("grouped-query", "pyramiddrop", {"keep": None, **STAGED}),
)


@pytest.mark.parametrize(("model", "method", "options"), METHODS)
def test_weights_and_cache_take_half(
    exported: Callable[..., Path], model: str, method: str, options: dict[str, Any], scene: Path
) -> None:
    whole, half = (
        Bundle(exported(model, method, dtype=dtype, **options)) for dtype in ("float32", "float16")
    )
    sizes = [bundle.manifest.weights.bytes for bundle in (whole, half)]
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=0.1)
    assert half.embedding_table().dtype == np.float16
    for target in TARGETS:
        results = [
            vtp.load(b.path, target=target).generate(scene, "what?", max_new_tokens=4)
            for b in (whole, half)
        ]
        assert results[1].cache_bytes * 2 == results[0].cache_bytes
        predicted = sum(stage.kv_bytes for stage in results[1].stages)
        assert results[1].cache_bytes == predicted


@pytest.mark.parametrize(("model", "method", "options"), METHODS)
def test_only_the_cache_is_float16_between_graphs(
    exported: Callable[..., Path], model: str, method: str, options: dict[str, Any]
) -> None:
    manifest = Bundle(exported(model, method, dtype="float16", **options)).manifest
    for record in manifest.graphs:
        for spec in (*record.inputs, *record.outputs):
            cached = spec.name.startswith(("past", "present")) or spec.name == "key_cache"
            assert (spec.dtype == "float16") == cached, spec


@pytest.mark.parametrize(("model", "method", "options"), METHODS)
def test_the_difference_is_that_of_rounding(
    exported: Callable[..., Path], model: str, method: str, options: dict[str, Any]
) -> None:
    """Measured at export against PyTorch in float32: neither none nor much."""
    bundle = Bundle(exported(model, method, dtype="float16", **options))
    logits = [d for d in bundle.manifest.golden.measured if d.output.startswith("logits")]
    assert {d.target for d in logits} == set(TARGETS)
    expected = TensorFile(bundle.file(bundle.manifest.golden.tensors)).tensor("0.logits")
    largest = float(np.abs(expected).max())
    worst = max(d.max_abs for d in logits) / largest
    assert 1e-5 < worst < 5e-3
    assert all(d.cosine > 0.9999 for d in logits)


def test_a_model_that_float16_spoils_is_not_exported(
    llava: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(llava("grouped-query"), folder)
    path = folder / "model.safetensors"
    tensors: dict[str, Any] = load_file(path)
    (name,) = (n for n in tensors if n.endswith("layers.0.mlp.up_proj.weight"))
    tensors[name] = tensors[name] * 1e6  # beyond the largest float16
    tensors[name.replace("up_proj", "down_proj")] *= 1e-6
    save_file(tensors, path, metadata={"format": "pt"})
    export_model(str(folder), tmp_path / "float32", ExportOptions(targets=("ort",)))
    with pytest.raises(ParityFailed, match=r"language\.0"):
        options = ExportOptions(targets=("ort",), dtype="float16")
        export_model(str(folder), tmp_path / "float16", options)
    assert not (tmp_path / "float16").exists()


def test_a_type_that_is_none_is_refused(exported: Callable[..., Path]) -> None:
    data = json.loads((exported("grouped-query") / "manifest.json").read_text())
    data["language"]["dtype"] = "float8"
    with pytest.raises(ManifestInvalid, match="float8"):
        Manifest.from_json(json.dumps(data))
