"""The graphs of the published models, from their configuration alone: no weight is there.

Towers and widths are whole. Layers of a decoder are all alike, so that two of them stand for all;
VTP_FULL_DEPTH=1 traces every one. TensorRT-RTX parses the graphs, which needs no card.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

from vtp.export.attention import use_traced_attention
from vtp.export.exporter import make_as
from vtp.export.families import FAMILIES, make_family
from vtp.export.graphs import GraphMaker, TracedGraph
from vtp.export.recipe import make_recipe
from vtp.export.targets import make_target
from vtp.export.weights import WeightFile
from vtp.samples.checkpoint_families import FAMILIES as PUBLISHED
from vtp.samples.checkpoint_sizes import SIZES
from vtp.samples.make_checkpoint import empty_model

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")

LAYERS = None if os.environ.get("VTP_FULL_DEPTH") else 2
MODELS = [
    ("llava", "7b"),
    ("llava", "13b"),
    ("llava_next", "mistral-7b"),
    ("video_llava", "7b"),
    ("llava_onevision", "7b"),
    ("internvl", "2b"),
    ("internvl", "26b"),
    ("qwen2_vl", "7b"),
    ("qwen2_5_vl", "7b"),
]


class ShapesAlone:
    """What a checkpoint's headers would say."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self.folder = Path()

    def __contains__(self, name: str) -> bool:
        return name in self._shapes

    def shape(self, name: str) -> tuple[int, ...]:
        return self._shapes[name]


def config_of(family: str, size: str) -> Any:
    """The published configuration, its decoder ``LAYERS`` deep."""
    config = empty_model(PUBLISHED[family], SIZES[family][size], "float16").config
    text = config.text_config
    if LAYERS is not None:
        text.num_hidden_layers = LAYERS
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:LAYERS]
    return config


def traced(family_name: str, size: str) -> tuple[list[TracedGraph], WeightFile]:
    """Vision graphs and language graph of target ``onnx``, in float16."""
    family, config = make_family(family_name), config_of(family_name, size)
    family.check(config)
    target, weights = make_target("onnx"), WeightFile("float16")
    with FakeTensorMode():
        with make_as("float16"):
            model = family.make(config).eval()
        use_traced_attention(model)
        shapes = {
            family.canonical_name(key): tuple(value.shape)
            for key, value in model.named_parameters(remove_duplicate=False)
        }
        maker = GraphMaker(family, model, ShapesAlone(shapes), weights)
        vision, language = family.vision(model), family.language(model)
        score = {} if vision.has_cls else {"score": "column-mean"}
        recipe = make_recipe("fastervlm", score)
        plan = recipe.plan(vision, len(language.layers), 0.1, None, family.positions)
        width = language.config.hidden_size
        graphs = [
            maker.vision(parts, recipe.vision, width, target, name)
            for name, parts in (("vision", vision), ("video", family.video(model)))
            if parts is not None
        ]
        stage = plan.stages[0]
        graphs.append(maker.language(language, stage, 0, None, plan.gapless(0), target))
    return graphs, weights


def test_every_family_is_here() -> None:
    assert {family for family, _ in MODELS} == set(FAMILIES)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "size"), MODELS)
def test_full_size_graphs_parse(family: str, size: str, tmp_path: Path) -> None:
    graphs, weights = traced(family, size)
    with (tmp_path / weights.file_name).open("wb") as file:
        file.write(weights.header())
        file.truncate(weights.nbytes())  # a hole on the disk: zeros that take no room
    for graph in graphs:
        weights.place_initializers(graph.model, graph.weights)
        path = tmp_path / f"{graph.name}.onnx"
        ir.save(graph.model, path)
        onnx.checker.check_model(onnx.load(path, load_external_data=False))
        assert parsed(path) > 10


def parsed(path: Path) -> int:
    """How many layers TensorRT-RTX makes of a graph."""
    logger = tensorrt_rtx.Logger(tensorrt_rtx.Logger.ERROR)
    builder = tensorrt_rtx.Builder(logger)
    network = builder.create_network()
    parser = tensorrt_rtx.OnnxParser(network, logger)
    read = parser.parse_from_file(str(path))
    problems = [str(parser.get_error(number)) for number in range(parser.num_errors)]
    assert read, problems
    return int(network.num_layers)

