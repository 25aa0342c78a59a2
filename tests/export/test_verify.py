"""The golden sample finds the graph that deviates."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vtp
from vtp.errors import ParityFailed, VerifyFailed
from vtp.export import ExportOptions, export_model
from vtp.export.check import golden
from vtp.runtime.files.tensorfile import TensorFile
from vtp.runtime.verify.verify import replay


def with_scaled_weight(bundle: Path, out: Path, tensor: str) -> Path:
    """A copy whose named weight is doubled, its checksum made to fit."""
    shutil.copytree(bundle, out)
    path = out / "weights.safetensors"
    mapped = TensorFile(path).tensor(tensor)
    assert isinstance(mapped, np.memmap)
    writable = np.memmap(path, mapped.dtype, "r+", mapped.offset, mapped.shape)
    writable *= 2
    writable.flush()
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["weights"]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


@pytest.mark.parametrize("target", ["ort", "onnx", "trt10"])
def test_an_intact_bundle_passes(exported: Callable[..., Path], target: str) -> None:
    deviations = replay(vtp.load(exported("grouped-query"), target=target))
    outputs = {(d.graph, d.output.partition("[")[0], d.keep) for d in deviations}
    assert outputs == {
        (graph, output, keep)
        for graph, output in (
            ("vision", "scores"),
            ("vision", "image_embeds"),
            ("language.0", "logits"),
        )
        for keep in ((1.0,), (0.25,))
    }


@pytest.mark.parametrize(
    ("tensor", "graph"),
    [
        ("vision_tower.encoder.layers.1.mlp.fc1.weight.transposed", "vision"),
        ("multi_modal_projector.linear_2.weight.transposed", "vision"),
        ("language_model.layers.1.mlp.up_proj.weight.transposed", "language.0"),
        ("lm_head.weight", "language.0"),
    ],
)
def test_the_graph_that_deviates_is_named(
    exported: Callable[..., Path], tmp_path: Path, tensor: str, graph: str
) -> None:
    damaged = with_scaled_weight(exported("grouped-query"), tmp_path / "damaged", tensor)
    with pytest.raises(VerifyFailed, match=graph):
        replay(vtp.load(damaged))


def test_an_export_beyond_the_tolerance_fails_and_leaves_nothing(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No two libraries agree to the last bit: with no tolerance the check must fail.
    monkeypatch.setitem(golden.TOLERANCES, "float32", 1e-12)
    with pytest.raises(ParityFailed, match=r"graph 'vision \(ort\)' deviates"):
        export_model(str(llava("grouped-query")), tmp_path / "out", ExportOptions())
    assert list(tmp_path.iterdir()) == []
