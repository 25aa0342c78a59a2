"""Rotary angles by position, and how far they are the same in every prompt.

Some decoders turn by other angles in a longer prompt (``dynamic``, ``longrope``), or look back no
further than a window. Graphs hold one table of angles and attend to all, which is the same up to a
number of positions: that number is the context.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import ModelNotSupported

_SHORT = 2
"""Positions of a prompt that is as short as can be; angles that hang on the length differ there."""


def context_of(text: Any) -> int:
    """Positions up to which a decoder does the same in prompts of every length.

    Args:
        text: its configuration.

    Raises:
        ModelNotSupported: it names no number of positions, or has layers of another kind.
    """
    most = text.max_position_embeddings
    if not isinstance(most, int) or most < 1:
        raise ModelNotSupported(
            f"max_position_embeddings {most!r}", ["the number of positions that the model knows"]
        )
    others = set(getattr(text, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if others:
        raise ModelNotSupported(
            f"a decoder with layers of {' and '.join(sorted(others))}",
            ["full attention, or a sliding window (which limits the length of prompts)"],
        )
    limits = [most, _window(text)]
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        limits.append(rope.get("original_max_position_embeddings"))
    return min(limit for limit in limits if limit is not None)


def _window(text: Any) -> int | None:
    """How far back the narrowest layer looks; None: all look at all."""
    window: int | None = getattr(text, "sliding_window", None)
    kinds = getattr(text, "layer_types", None)
    return window if kinds is None or "sliding_attention" in kinds else None


def rotary_tables(rotary: type[nn.Module], config: Any, context: int) -> dict[str, np.ndarray]:
    """``rotary_cos`` and ``rotary_sin``, ``(context, head_dim / 2)`` float32.

    Args:
        rotary: transformers' rotary embedding, made anew on real memory.
        config: of the decoder.
        context: positions.

    Raises:
        ModelNotSupported: in a prompt of this length angles are others than in a short one.
    """
    tables = _tables(rotary, config, context)
    for name, table in _tables(rotary, config, min(_SHORT, context)).items():
        if not np.array_equal(table, tables[name][: len(table)]):
            kind = config.rope_parameters.get("rope_type")
            raise ModelNotSupported(
                f"rope_type {kind!r} over {context} positions, whose angles depend on how long the "
                "prompt is",
                [f"up to {context_of(config)} positions"],
            )
    return tables


def _tables(rotary: type[nn.Module], config: Any, context: int) -> dict[str, np.ndarray]:
    from torch._subclasses.fake_tensor import unset_fake_temporarily

    with unset_fake_temporarily(), torch.no_grad():
        module = rotary(config=config)
        # M-RoPE broadcasts them over its axes: where all are equal, its tables are the plain ones.
        positions = torch.arange(context)[None]
        cos, sin = module(torch.zeros(1, dtype=torch.float32), positions)
        half = cos.shape[-1] // 2
        return {
            "rotary_cos": cos[0, :, :half].numpy().copy(),
            "rotary_sin": sin[0, :, :half].numpy().copy(),
        }
