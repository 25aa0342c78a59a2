"""What the graphs of the language side take and give: example inputs, and names of their sizes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from ...runtime.bundle.plan import Drop, Stage
from ..parts.language import LanguageParts
from .tracing import Shape


class StageEnds:
    """What every language graph takes and gives: rows, positions and the cache of its layers."""

    def __init__(
        self,
        parts: LanguageParts,
        stage: Stage,
        number: int,
        batch: int,
        dim: Shape,
    ) -> None:
        width, heads, head_dim = parts.config.hidden_size, parts.kv_heads, parts.head_dim
        axes = (parts.position_axes,) if parts.sections else ()
        cache: Shape = (*dim, heads, "capacity", head_dim)
        self.arguments: dict[str, Any] = {
            "hidden": torch.zeros(batch, 5, width),
            "position_ids": torch.zeros(*axes, batch, 5, dtype=torch.int64),
        }
        self.inputs: dict[str, Shape] = {
            "inputs_embeds" if number == 0 else "hidden_states": (*dim, "tokens", width),
            "position_ids": (*axes, *dim, "tokens"),
        }
        self.arguments["write_index"] = torch.zeros(batch, dtype=torch.int64)
        self.inputs["write_index"] = dim
        empty = torch.zeros(batch, heads, 24, head_dim, dtype=parts.dtype)
        self.past = [(empty.clone(), empty.clone()) for _ in range(stage.layers)]
        self.pasts: dict[str, Shape] = {}
        self.presents: dict[str, Shape] = {}
        for layer in range(stage.layers):
            for kind in ("key", "value"):
                self.pasts[f"past_key_values.{layer}.{kind}"] = cache
                self.presents[f"present.{layer}.{kind}"] = cache


def drop_ends(
    parts: LanguageParts, drop: Drop, inputs: Iterable[str]
) -> tuple[dict[str, tuple[Any, Shape]], dict[str, Shape]]:
    """Inputs of a drop graph with their shapes, and the shapes of its outputs.

    Args:
        parts: of the decoder.
        drop: what the graph does.
        inputs: what its score reads beside the rows.
    """
    config, tokens, candidates = parts.config, 11, 6
    width, heads = config.hidden_size, config.num_attention_heads
    fixed: dict[str, tuple[Any, Shape]] = {
        "hidden_states": (torch.zeros(1, tokens, width), (1, "tokens", width)),
        "image_rows": (torch.arange(candidates)[None] + 2, ("groups", "candidates")),
        "text_rows": (torch.arange(3), ("texts",)),
        "keep": (torch.tensor([2]), (1,)),
    }
    if drop.recycle is None:
        # Two groups: one would be taken for a constant.
        rows = torch.arange(2 * candidates).reshape(2, -1) % tokens
        fixed["image_rows"] = (rows, ("groups", "candidates"))
    else:
        fixed["image_rows"] = (fixed["image_rows"][0], (1, "candidates"))
        fixed["recycled"] = (torch.tensor([3]), (1,))
        fixed["merged"] = (torch.tensor([2]), (1,))
    groups = fixed["image_rows"][0].shape[0]
    size = (1, heads, tokens, parts.head_dim)
    axes = (parts.position_axes,) if parts.sections else ()
    keys: tuple[Any, Shape] = (
        torch.zeros(1, parts.kv_heads, 24, parts.head_dim, dtype=parts.dtype),
        (1, parts.kv_heads, "capacity", parts.head_dim),
    )
    optional: dict[str, tuple[Any, Shape]] = {
        "position_ids": (
            torch.arange(tokens).expand(*axes, 1, -1),
            (*axes, 1, "tokens"),
        ),
        "write_index": (torch.zeros(1, dtype=torch.int64), (1,)),
        "key_cache": keys,
        "query": (torch.zeros(1, heads, 1, parts.head_dim), (1, heads, 1, parts.head_dim)),
        "queries": (torch.zeros(size), (1, heads, "tokens", parts.head_dim)),
        "rater_rows": (torch.arange(5), ("raters",)),
        "rater_weights": (torch.ones(5), ("raters",)),
        "given_scores": (torch.zeros(groups, candidates), fixed["image_rows"][1]),
    }
    ends = {**fixed, **{key: optional[key] for key in inputs}}
    outputs: dict[str, Shape] = {
        "hidden_states_out": (1, "left", width),
        "kept": (fixed["image_rows"][1][0], "keep"),
        "scores": fixed["image_rows"][1],
    }
    return ends, outputs
