"""The graphs of a model, traced once into neutral form, over one weight file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from ...errors import GraphNotLowered
from ...runtime.bundle.manifest import WeightsRecord
from ...runtime.bundle.plan import Drop, Stage
from ..families.base import Family
from ..methods.base import VisionMethod
from ..modules.drop import DropGraph
from ..modules.language import GuideStage, LanguageStage
from ..modules.shrink import ShrinkGraph
from ..modules.vision import VisionGraph
from ..parts.language import LanguageParts
from ..parts.vision import VisionParts
from ..passes.block_weights import dequantize_matrices, matrices_for_matmul
from ..passes.static_reshape import make_reshapes_static
from ..passes.tidy import tidy
from ..passes.transposed_weights import pull_transposes
from ..scores.next_attention import NextLayerAttention
from ..scores.raters import RaterChoice
from ..source.checkpoint import Checkpoint
from ..weights.weight_file import WeightFile
from .ends import StageEnds, drop_ends
from .neutral import NeutralGraph
from .tracing import Shape, trace, unknown_values

_VISION_SIDE = ("vision", "video", "shrink")
"""Graphs whose weights are never quantized."""


class GraphMaker:
    """Makes the graphs of one model into one weight file.

    Args:
        family: the model's family.
        model: the transformers model on fake tensors.
        checkpoint: knows which tensors exist.
        weights: collects what the graphs need.
        quantized: how the language side's matrices are stored; None: as everything else.
    """

    def __init__(
        self,
        family: Family,
        model: Any,
        checkpoint: Checkpoint,
        weights: WeightFile,
        quantized: WeightsRecord | None = None,
    ) -> None:
        self._weights = weights
        self._quantized = quantized
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

    def vision(
        self,
        parts: VisionParts,
        method: VisionMethod | None,
        width: int,
        name: str = "vision",
    ) -> NeutralGraph:
        """A vision graph; ``width`` is the language model's."""
        module = VisionGraph(parts, method)
        ends = dict(parts.ends())
        images, tokens = parts.sizes
        rows = parts.tokens + 1 if parts.keeps_cls else tokens
        outputs: dict[str, Shape] = {"image_embeds": (images, rows, width)}
        if method is not None:
            ends["keep"] = (torch.tensor([max(1, parts.tokens // 2)]), (1,))
            kept = "rows" if parts.keeps_cls else "keep"
            outputs = {
                "image_embeds": (images, kept, width),
                "kept": (images, kept),
                "scores": (images, tokens),
            }
            if method.reads_prompt:
                ends["prompt_embeds"] = (torch.zeros(7, width), ("texts", width))
        model = trace(
            module,
            {key: value for key, (value, _) in ends.items()},
            {key: shape for key, (_, shape) in ends.items()},
            outputs,
            name,
        )
        return self._finish(name, model, module, {})

    def shrink(self, parts: VisionParts, width: int) -> NeutralGraph:
        """The graph that makes fewer tokens of a large mosaic."""
        module = ShrinkGraph()
        shape: Shape = ("images", parts.tokens, width)
        model = trace(
            module,
            {
                "image_embeds": torch.zeros(2, parts.tokens, width),
                "index": torch.zeros(3, 4, dtype=torch.int64),
                "weight": torch.zeros(3, 4),
            },
            {"image_embeds": shape, "index": ("rows", 4), "weight": ("rows", 4)},
            {"shrunken": (1, "rows", width)},
            "shrink",
        )
        return self._finish("shrink", model, module, {})

    def language(
        self,
        parts: LanguageParts,
        stage: Stage,
        number: int,
        emits: str | None,
        gapless: bool,
    ) -> NeutralGraph:
        """Language graph ``number``; ``emits`` as for ``LanguageStage``, ``gapless`` as for
        ``Target.lower``."""
        name = f"language.{number}"
        module = LanguageStage(parts, stage.first, stage.stop, emits)
        width, vocab, heads = (
            parts.config.hidden_size,
            parts.config.vocab_size,
            parts.config.num_attention_heads,
        )
        ends = StageEnds(parts, stage, number, 2, ("batch",))
        outputs: dict[str, Shape] = (
            {"logits": ("batch", vocab)}
            if stage.stop == len(parts.layers)
            else {"hidden_states_out": ("batch", "tokens", width)}
        )
        if emits is not None:
            rows = 1 if emits == "query" else "tokens"
            outputs[emits] = ("batch", heads, rows, parts.head_dim)
        return self._stage(name, module, parts, ends, {}, outputs, gapless)

    def guide(self, parts: LanguageParts) -> NeutralGraph:
        """The language graph of a model that guides another: all layers, one sequence."""
        stage = Stage(first=0, stop=len(parts.layers))
        module = GuideStage(parts, stage.first, stage.stop)
        extra: dict[str, tuple[Any, Shape]] = {
            "score_rows": (torch.arange(3), ("scorers",)),
            "image_columns": (torch.arange(4), ("columns",)),
            "logit_rows": (torch.arange(2), ("answers",)),
        }
        outputs: dict[str, Shape] = {
            "logits": ("answers", parts.config.vocab_size),
            "received": ("columns",),
        }
        ends = StageEnds(parts, stage, 0, 1, (1,))
        return self._stage("language.0", module, parts, ends, extra, outputs, True)

    def _stage(
        self,
        name: str,
        module: LanguageStage,
        parts: LanguageParts,
        ends: StageEnds,
        extra: Mapping[str, tuple[Any, Shape]],
        outputs: dict[str, Shape],
        gapless: bool,
    ) -> NeutralGraph:
        arguments = {
            **ends.arguments,
            **{key: value for key, (value, _) in extra.items()},
            "past": ends.past,
        }
        inputs = {**ends.inputs, **{key: shape for key, (_, shape) in extra.items()}, **ends.pasts}
        model = trace(module, arguments, inputs, {**outputs, **ends.presents}, name)
        return self._finish(
            name,
            model,
            module,
            parts.rotary_tables(),
            norms=2 * len(module.layers) + (module.norm is not None),
            rotates=True,
            gapless=gapless,
            sections=bool(parts.sections),
        )

    def drop(self, parts: LanguageParts, drop: Drop, number: int) -> NeutralGraph:
        """The graph before language graph ``number``."""
        name = f"drop.{number}"
        module = DropGraph(parts, drop)
        ends, outputs = drop_ends(parts, drop, module.score.inputs)
        model = trace(
            module,
            {key: value for key, (value, _) in ends.items()},
            {key: shape for key, (_, shape) in ends.items()},
            outputs,
            name,
        )
        rotates = any("rotary" in key for key, _ in module.named_buffers())
        tables = parts.rotary_tables() if rotates else {}
        fuses = isinstance(module.score, NextLayerAttention)
        sections = bool(parts.sections)
        return self._finish(name, model, module, tables, rotates=fuses, sections=sections)

    def raters(self, parts: LanguageParts) -> NeutralGraph:
        """The graph that chooses the text tokens that rate, before language graph 0."""
        width = parts.config.hidden_size
        model = trace(
            module := RaterChoice(),
            {
                "inputs_embeds": torch.zeros(1, 11, width),
                "image_rows": torch.arange(6),
                "rater_rows": torch.arange(5),
            },
            {
                "inputs_embeds": (1, "tokens", width),
                "image_rows": ("image_tokens",),
                "rater_rows": ("raters",),
            },
            {"rater_weights": ("raters",)},
            "raters",
        )
        return self._finish("raters", model, module)

    def _finish(
        self,
        name: str,
        model: ir.Model,
        module: nn.Module,
        tables: Mapping[str, np.ndarray] | None = None,
        **known: Any,
    ) -> NeutralGraph:
        """Give the graph's constants a place in the file; ``known``: of ``NeutralGraph``."""
        tables = tables or {}
        tidy(model)
        make_reshapes_static(model)
        transposed = pull_transposes(model)
        tidy(model)
        places: dict[str, str] = {}
        parameters = dict(module.named_parameters(remove_duplicate=False))
        if self._quantized is not None and name not in _VISION_SIDE:
            transposed |= matrices_for_matmul(model)
            places |= self._quantize(model, transposed, parameters, self._quantized)
        buffers = dict(module.named_buffers(remove_duplicate=False))
        for key in unknown_values(model):
            if key in places:
                continue
            shape = tuple(int(dim) for dim in model.graph.initializers[key].shape or ())
            table = key.rpartition(".")[2]
            if table in tables:
                places[key] = self._weights.table(table, tables[table])
            elif key in parameters:
                source = self._sources[id(parameters[key])]
                places[key] = self._weights.weight(source, shape, key in transposed)
            elif key in buffers and id(buffers[key]) in self._buffers:
                table, values = self._buffers[id(buffers[key])]
                places[key] = self._weights.table(table, values, exact=True)
            else:
                raise GraphNotLowered(name, f"constant {key!r} has no known value")
        return NeutralGraph(name=name, model=model, weights=places, **known)

    def _quantize(
        self,
        model: ir.Model,
        transposed: set[str],
        parameters: Mapping[str, nn.Parameter],
        how: WeightsRecord,
    ) -> dict[str, str]:
        """Quantize the graph's matrices; where their parts are in the file."""
        places: dict[str, str] = {}
        waiting = [key for key in unknown_values(model) if key in transposed & parameters.keys()]
        shapes = {key: model.graph.initializers[key].shape for key in waiting}
        for key, parts in dequantize_matrices(model, waiting, how).items():
            inputs, outputs = (int(dim) for dim in shapes[key] or ())
            source = self._sources[id(parameters[key])]
            names = self._weights.quantized(source, (inputs, outputs), how)
            places |= {initializer: names[part] for part, initializer in parts.items()}
        return places
