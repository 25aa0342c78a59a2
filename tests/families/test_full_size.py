"""The graphs of the published models, from their configuration alone: no weight is there.

Widths are whole. Layers are alike, so that two of a decoder and eight of a tower stand for all, and
one size for its family; one tower is whole. VTP_FULL_DEPTH=1 takes every layer of more sizes.
TensorRT-RTX parses the graphs, which needs no card.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from vtp.export.families import FAMILIES
from vtp.runtime.engines.tensorrt.graphs import write_for_tensorrt
from vtp.samples.checkpoints.families import FAMILIES as PUBLISHED
from vtp.samples.checkpoints.sizes import SIZES
from vtp.samples.make_checkpoint import empty_model

from .full_size import write_graphs

pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")

FULL = bool(os.environ.get("VTP_FULL_DEPTH"))
LAYERS = None if FULL else 2
TOWER = None if FULL else 8
MODELS = [
    ("llava", "7b"),
    ("llava_next", "mistral-7b"),
    ("video_llava", "7b"),
    ("llava_onevision", "7b"),
    ("internvl", "26b"),
    ("qwen2_vl", "7b"),
    ("qwen2_5_vl", "7b"),
]
if FULL:
    MODELS += [("llava", "13b"), ("internvl", "2b"), ("qwen2_vl", "2b"), ("qwen2_5_vl", "3b")]


def config_of(family: str, size: str, tower: int | None) -> Any:
    """The published configuration: the decoder ``LAYERS`` deep, the tower ``tower`` or whole."""
    config = empty_model(PUBLISHED[family], SIZES[family][size], "float16").config
    vision = config.vision_config
    if tower is not None:
        setattr(vision, "depth" if hasattr(vision, "depth") else "num_hidden_layers", tower)
    if tower is not None and hasattr(vision, "fullatt_block_indexes"):
        whole = [layer for layer in vision.fullatt_block_indexes if layer < tower]
        assert whole, "a layer that sees the whole image"
        vision.fullatt_block_indexes = whole
    text = config.text_config
    if LAYERS is not None:
        text.num_hidden_layers = LAYERS
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:LAYERS]
    return config


def test_every_family_is_here() -> None:
    assert {family for family, _ in MODELS} == set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "size", "tower"),
    [("llava", "7b", 4), ("llava", "7b", None), *((*model, TOWER) for model in MODELS[1:])],
)
def test_full_size_graphs_parse(family: str, size: str, tower: int | None, tmp_path: Path) -> None:
    for path in write_graphs(config_of(family, size, tower), tmp_path, "onnx"):
        onnx.checker.check_model(path)
        folder = tmp_path / path.stem
        folder.mkdir()
        assert parsed(write_for_tensorrt(path, folder, 1024, "float16", without_body=False)) > 10


PARSE = """
import sys
import tensorrt_rtx

logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
builder = tensorrt_rtx.Builder(logger)
network = builder.create_network()
parser = tensorrt_rtx.OnnxParser(network, logger)
if not parser.parse_from_file(sys.argv[1]):
    sys.exit("; ".join(str(parser.get_error(number)) for number in range(parser.num_errors)))
print(network.num_layers)
"""


def parsed(path: Path) -> int:
    """How many layers TensorRT-RTX makes of a graph, in a process of its own: once tests of the
    plugin have registered it here, the parser would end this one (docs/decisions/0014)."""
    command = [sys.executable, "-c", PARSE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    return int(done.stdout)
