"""Trace and lower the graphs of a model for one target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from ..errors import GraphNotLowered, ModelFileMissing
from .checkpoint import Checkpoint
from .families.base import Family, LanguageParts, VisionParts
from .language import LanguageStage
from .methods.base import Method
from .passes.rms_norm import fuse_rms_norm
from .passes.rotary import fuse_rotary
from .passes.static_reshape import make_reshapes_static
from .passes.transposed_weights import pull_transposes
from .targets.base import Target
from .tracing import Shape, tidy, trace, unknown_values
from .vision import VisionGraph
from .weights import WeightFile


@dataclass(frozen=True)
class TracedGraph:
    """A lowered graph whose weights still wait for their place in the file."""

    name: str
    model: ir.Model
    weights: Mapping[str, str]
    """Initializer name -> name in the weight file."""


class GraphMaker:
    """Makes the graphs of one model, for any target, into one weight file.

    Args:
        family: the model's family.
        model: the transformers model on fake tensors.
        checkpoint: knows which tensors exist.
        weights: collects what the graphs need.
    """

    def __init__(
        self, family: Family, model: Any, checkpoint: Checkpoint, weights: WeightFile
    ) -> None:
        self._weights = weights
        self._checkpoint = checkpoint
        self._sources: dict[int, str] = {}
        for key, tensor in model.named_parameters(remove_duplicate=False):
            name = family.canonical_name(key)
            if name in checkpoint or id(tensor) not in self._sources:
                self._sources[id(tensor)] = name
        values = {family.canonical_name(k): v for k, v in family.buffers(model).items()}
        self._buffers: dict[int, tuple[str, np.ndarray]] = {}
        for key, tensor in model.named_buffers():
            name = family.canonical_name(key)
            if name in values:
                self._buffers[id(tensor)] = (name, values[name])

    def vision(self, parts: VisionParts, method: Method, width: int, target: Target) -> TracedGraph:
        """The vision graph; ``width`` is the language model's."""
        module = VisionGraph(parts, method, target)
        height, columns = parts.image_size
        arguments: dict[str, Any] = {"pixel_values": torch.zeros(2, 3, height, columns)}
        inputs: dict[str, Shape] = {"pixel_values": ("images", 3, height, columns)}
        outputs: dict[str, Shape] = {"image_embeds": ("images", parts.tokens, width)}
        if method.prunes:
            arguments["keep"] = torch.tensor([max(1, parts.tokens // 2)])
            inputs["keep"] = (1,)
            outputs = {
                "image_embeds": ("images", "keep", width),
                "kept": ("images", "keep"),
                "scores": ("images", parts.tokens),
            }
        model = trace(module, arguments, inputs, outputs, target.opset, "vision")
        return self._finish("vision", model, module, {}, target)

    def language(
        self, parts: LanguageParts, first: int, stop: int, number: int, target: Target
    ) -> TracedGraph:
        """Language graph ``number``, layers ``first .. stop - 1``, as the last stage."""
        name = f"language.{number}"
        module = LanguageStage(parts, first, stop, True, target)
        width, vocab = parts.config.hidden_size, parts.config.vocab_size
        cache = ("batch", parts.kv_heads, "capacity", parts.head_dim)
        layers, example = range(stop - first), (2, parts.kv_heads, 24, parts.head_dim)
        arguments = {
            "inputs_embeds": torch.zeros(2, 5, width),
            "position_ids": torch.zeros(2, 5, dtype=torch.int64),
            "write_index": torch.zeros(2, dtype=torch.int64),
            "past": [(torch.zeros(example), torch.zeros(example)) for _ in layers],
        }
        inputs: dict[str, Shape] = {
            "inputs_embeds": ("batch", "tokens", width),
            "position_ids": ("batch", "tokens"),
            "write_index": ("batch",),
        }
        outputs: dict[str, Shape] = {"logits": ("batch", vocab)}
        for layer in layers:
            for kind in ("key", "value"):
                inputs[f"past_key_values.{layer}.{kind}"] = cache
                outputs[f"present.{layer}.{kind}"] = cache
        model = trace(module, arguments, inputs, outputs, target.opset, name)
        graph = self._finish(name, model, module, parts.rotary_tables(), target)
        self._expect(name, graph.model, {"RMSNormalization": 2 * len(layers) + 1})
        return graph

    def _finish(
        self,
        name: str,
        model: ir.Model,
        module: nn.Module,
        tables: Mapping[str, np.ndarray],
        target: Target,
    ) -> TracedGraph:
        tidy(model)
        make_reshapes_static(model)
        fuse_rms_norm(model)
        rotated = fuse_rotary(model)
        if tables and rotated == 0:
            raise GraphNotLowered(name, "no rotary position embedding was found")
        target.lower(model)
        transposed = pull_transposes(model)
        tidy(model)
        places: dict[str, str] = {}
        parameters = dict(module.named_parameters(remove_duplicate=False))
        buffers = dict(module.named_buffers(remove_duplicate=False))
        for key in unknown_values(model):
            shape = tuple(int(dim) for dim in model.graph.initializers[key].shape or ())
            if key in tables:
                places[key] = self._weights.table(key, tables[key])
            elif key in parameters:
                source = self._sources[id(parameters[key])]
                self._check_shape(source, shape[::-1] if key in transposed else shape)
                places[key] = self._weights.weight(source, shape, key in transposed)
            elif key in buffers and id(buffers[key]) in self._buffers:
                places[key] = self._weights.table(*self._buffers[id(buffers[key])])
            else:
                raise GraphNotLowered(name, f"constant {key!r} has no known value")
        return TracedGraph(name, model, places)

    def _check_shape(self, source: str, shape: tuple[int, ...]) -> None:
        found = self._checkpoint.shape(source)
        if found != shape:
            raise ModelFileMissing(
                self._checkpoint.folder,
                f"tensor {source!r} of the right shape",
                f"it is {found}, config.json asks for {shape}",
            )

    @staticmethod
    def _expect(name: str, model: ir.Model, counts: Mapping[str, int]) -> None:
        for op, wanted in counts.items():
            found = sum(node.op_type == op for node in model.graph)
            if found != wanted:
                raise GraphNotLowered(name, f"{found} {op} nodes were made, {wanted} were expected")
