"""The wrappers run as plain PyTorch, without tracing: what the exported graphs are checked
against."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from ..targets.base import CacheStep


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Attention by its definition; ``(batch, tokens, heads, head_dim)``."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    logits = (query @ key.transpose(2, 3) * scale).float()
    if mask is not None:
        logits = logits.masked_fill(~mask, float("-inf"))
    return (torch.softmax(logits, dim=-1).to(value.dtype) @ value).transpose(1, 2)


class EagerTarget:
    """Attention and cache in plain PyTorch; the cache is written in place."""

    name: ClassVar[str] = "eager"
    opset: ClassVar[int] = 0
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)
    zero_points: ClassVar[bool] = False
    appends: ClassVar[bool] = False

    def vision_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention over all tokens, or those of the mask."""
        return _attend(query, key, value, scale, mask)

    def cached_attention(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        layer: int,
        step: CacheStep,
    ) -> torch.Tensor:
        """Causal attention over the filled rows of the cache."""
        assert step.write_index is not None
        first, tokens = int(step.write_index[0]), query.shape[2]
        last = first + tokens
        for cache, new in zip(step.past[layer], (key, value), strict=True):
            cache[:, :, first:last] = new
        keys, values = (cache[:, :, :last] for cache in step.past[layer])
        rows = first + torch.arange(tokens)
        mask = torch.arange(last)[None, :] <= rows[:, None]
        step.present.append(step.past[layer])
        step.keys.append(step.past[layer][0])
        return _attend(query, keys, values, scale, mask)

    def lower(self, model: Any, gapless: bool) -> None:
        """There is no graph."""
        raise NotImplementedError
