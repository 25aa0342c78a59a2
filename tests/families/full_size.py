"""Graphs of full-size models from their configuration alone: no weights, and no memory for them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vtp.export.families import make_family
from vtp.export.graphs.neutral import neutral_graph
from vtp.export.graphs.weight_places import WeightPlaces
from vtp.export.modules.graphs import language_graphs, vision_graphs
from vtp.export.ops.attention import use_traced_attention
from vtp.export.plan.recipe import make_recipe
from vtp.export.plan.typed_model import make_model
from vtp.export.source.checkpoint import Checkpoint
from vtp.export.targets import make_target
from vtp.export.targets.base import lower
from vtp.export.weights.weight_file import WeightFile


def write_graphs(config: Any, folder: Path, target: str) -> list[Path]:
    """The vision graphs of the default method and the language graph over all layers, in float16.

    Their weights lie in a file of holes: it has the right size and takes no room on disk.
    """
    family = make_family(config.model_type)
    with FakeTensorMode():
        model: Any = make_model(family, config, "float16")
        use_traced_attention(model)
        vision, language = family.vision(model), family.language(model)
        _write_holes(folder / "model.safetensors", model)
        checkpoint = Checkpoint(folder, family.canonical_name)
        weights = WeightFile("float16")
        recipe = make_recipe(None, {}).for_tower(vision.has_cls)
        plan = recipe.plan(vision, len(language.layers), None, None, language.positions)
        graphs = [
            neutral_graph(graph)
            for graph in (
                *vision_graphs(vision, family.video(model), recipe.vision, language, shrinks=False),
                *language_graphs(language, plan),
            )
        ]
        finder = WeightPlaces(family, model, checkpoint, weights)
        places = [finder.of(graph) for graph in graphs]
    paths = []
    for graph, found in zip(graphs, places, strict=True):
        lowered = lower(graph, make_target(target))
        weights.place_initializers(lowered, found)
        paths.append(folder / f"{graph.name}.onnx")
        ir.save(lowered, paths[-1])
    with (folder / weights.file_name).open("wb") as file:
        file.write(weights.header())
        file.truncate(weights.nbytes())
    return paths


def _write_holes(path: Path, model: torch.nn.Module) -> None:
    """A checkpoint of zeros with the model's tensors, each once."""
    entries: dict[str, Any] = {}
    end = 0
    for name, tensor in model.named_parameters():
        size = tensor.numel() * 2
        entries[name] = {
            "dtype": "F16",
            "shape": list(tensor.shape),
            "data_offsets": [end, end + size],
        }
        end += size
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
