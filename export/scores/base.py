"""What a score is: one number for each image token that arrives at a drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from ...runtime.bundle.contract import GraphKind
from ..parts.language import LanguageParts


@dataclass
class Arriving:
    """What a score may look at; of one sequence, rows are those of this prefill.

    Which of the optional entries are there, the score's ``inputs`` say.
    """

    hidden_states: torch.Tensor
    """``(1, tokens, width)``: output of the layer before the drop."""
    image_rows: torch.Tensor
    """``(groups, candidates)`` int64: rows of the image tokens, one group for each budget."""
    text_rows: torch.Tensor
    """``(texts,)`` int64: all other rows."""
    position_ids: torch.Tensor | None = None
    """``(1, tokens)`` int64."""
    write_index: torch.Tensor | None = None
    """``(1,)`` int64: rows in the cache before this prefill."""
    key_cache: torch.Tensor | None = None
    """``(1, kv_heads, capacity, head_dim)``: keys of the layer before the drop, positions
    applied."""
    query: torch.Tensor | None = None
    """``(1, heads, 1, head_dim)``: query of the last row there."""
    queries: torch.Tensor | None = None
    """``(1, heads, tokens, head_dim)``: queries of all rows there."""
    rater_rows: torch.Tensor | None = None
    """``(raters,)`` int64: rows of the text tokens that may rate."""
    rater_weights: torch.Tensor | None = None
    """``(raters,)`` float32: 1 for those that do, else 0."""
    given_scores: torch.Tensor | None = None
    """``(groups, candidates)`` float32: scores from elsewhere."""


class DropScore(nn.Module):
    """Base of the scores.

    Args:
        parts: the decoder.
        layer: first layer after the drop.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    """Entries of ``Arriving`` that it reads, besides those that are always there."""
    before: ClassVar[GraphKind | None] = None
    """A graph that runs once for a prompt, before the stages: its outputs are among ``inputs``."""
    rotates: ClassVar[bool] = False
    """Whether it rotates queries and keys itself."""
    from_layer: ClassVar[int | None] = -1
    """Layer that it is read from, relative to the first layer after the drop; None for none."""

    def __init__(self, parts: LanguageParts, layer: int) -> None:
        super().__init__()

    @classmethod
    def make_before(cls, parts: LanguageParts) -> nn.Module:
        """The module of ``before``, whose arguments are its inputs by name."""
        raise NotImplementedError

    def forward(self, arriving: Arriving) -> torch.Tensor:
        """``(groups, candidates)`` float32, higher is kept."""
        raise NotImplementedError


def attention_rows(
    query: torch.Tensor, key: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of some rows.

    Args:
        query: ``(1, heads, rows, head_dim)``.
        key: ``(1, kv_heads, columns, head_dim)``; each serves ``heads / kv_heads`` query heads.
        scale: factor on the dot products.
        mask: what a row may see, boolean, broadcast to ``(rows, columns)``; None for all.

    Returns:
        Softmax over the columns, ``(heads, rows, columns)`` float32.
    """
    key = key.to(query.dtype)
    heads, rows, size = query.shape[1:]
    kv_heads = key.shape[1]
    grouped = query.reshape(kv_heads, heads // kv_heads, rows, size)
    logits = torch.matmul(grouped * scale, key.reshape(kv_heads, 1, -1, size).transpose(2, 3))
    logits = logits.float()
    if mask is not None:
        # Finite, because -inf times zero weights would be NaN in some kernels.
        logits = torch.where(mask, logits, torch.full((), torch.finfo(torch.float32).min))
    return torch.softmax(logits, dim=-1).reshape(heads, rows, -1)
