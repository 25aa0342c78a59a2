"""Bundles of every family are built by TensorRT-RTX, which needs no card for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtp.errors import BeyondLimits, OptionInvalid
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.chat.media import laid_out
from vtp.runtime.engines.capacity import BuildSizes, capacities, check_request, make_limits, ranges
from vtp.runtime.engines.tensorrt.variant import BuildOptions, build_variant
from vtp.runtime.model.model_input import extent_of

from .conftest import picture

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
    options = BuildOptions(engine="tensorrt-rtx", compute_capabilities=("8.9",), name="built")
    variant = build_variant(bundle, options)
    graphs = [graph.name for graph in Bundle(bundle).manifest.graphs if graph.target == "onnx"]
    assert [engine.graph for engine in variant.engines] == graphs
    assert {"video", "shrink"} & set(graphs) or name in ("llava_next", "internvl")
    Bundle(bundle).verify()


SIZES = [(32, 32), (60, 30), (30, 60), (400, 40), (300, 290)]


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("method", ["fastervlm", "fastv"])
def test_a_build_takes_every_image_and_video_that_it_was_asked_for(
    name: str, method: str, bundle_of: Callable[..., Path]
) -> None:
    options = BUNDLES[name] if method == "fastervlm" else {"parameters": {"layer": 1}}
    manifest = Bundle(bundle_of(name, method, **options)).manifest
    plan, preprocessing = manifest.plan, manifest.preprocessing
    for images in (1, 2):
        for most in (1.0, 0.5):
            limits = make_limits(manifest, BuildSizes(images=images, keep=most))
            media = [[preprocessing(picture(*size), of=images)] * images for size in SIZES]
            if limits.frames:
                media.append([preprocessing.video([picture(30, 30)] * limits.frames)])
            for turn in media:
                extent = extent_of(laid_out(turn, manifest.prompt).placed)
                for keep in (most, 0.3, 1):
                    counts = plan.counts(keep, extent)
                    check_request(plan, limits, counts, extent, "vtp build DIR")
                    seen = plan.tokens_of_stages(counts, extent)
                    for rows, room in zip(seen, capacities(plan, limits), strict=True):
                        assert rows + 100 <= room
                    tiles, _ = ranges(plan, limits, "vision")
                    assert len(extent.tiles) <= tiles["images"][2]
                    if plan.decoder_drops:
                        drop, keeps = ranges(plan, limits, "drop.1")
                        assert extent.total <= drop["candidates"][2]
                        assert counts[0] <= keeps["keep"][2]


def test_frames_beyond_what_was_asked_for(bundle_of: Callable[..., Path]) -> None:
    manifest = Bundle(bundle_of("video_llava")).manifest
    plan, preprocessing = manifest.plan, manifest.preprocessing
    limits = make_limits(manifest, BuildSizes(frames=2))
    assert (limits.frames, limits.tiles) == (2, 2)
    extent = extent_of([preprocessing.video([picture(30, 30)] * 3)])
    with pytest.raises(BeyondLimits, match=r"frames .* 3, but the limit is 2; .*--max-frames N"):
        check_request(plan, limits, plan.counts(0.1, extent), extent, "vtp build DIR")
    next_ = Bundle(bundle_of("llava_next")).manifest
    with pytest.raises(OptionInvalid, match="does not support videos"):
        make_limits(next_, BuildSizes(frames=2))
