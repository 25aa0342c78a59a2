"""Token recycling: the best of the dropped tokens are merged into a few (SparseVLM)."""

from __future__ import annotations

import torch

from ..ops.ranking import ranked
from ..ops.size import int_of


def recycle(
    rows: torch.Tensor,
    hidden_states: torch.Tensor,
    image_rows: torch.Tensor,
    scores: torch.Tensor,
    keep: torch.Tensor,
    recycled: torch.Tensor,
    merged: torch.Tensor,
) -> torch.Tensor:
    """Cluster the highest scored of the dropped tokens by density peaks and take the means.

    Distances are Euclidean over sqrt(width). A token's density is ``exp(-mean square distance)`` of
    its ``merged`` nearest (itself included); centres are the tokens with the highest product of
    density and distance to the nearest denser token (for the densest: the largest distance of all);
    every token joins its nearest centre. The published code adds random noise to the densities;
    this adds none, and takes the first of equals.

    Args:
        rows: ``(1, tokens, row_width)``: what the means are of.
        hidden_states: ``(1, tokens, width)``: what distances are between.
        image_rows: ``(1, candidates)`` int64.
        scores: ``(1, candidates)`` float32.
        keep: ``(1,)`` int64; the candidates after the ``keep`` best take part.
        recycled: ``(1,)`` int64: how many of them.
        merged: ``(1,)`` int64: how many tokens they become, 1 or more.

    Returns:
        ``(1, merged, row_width)``, in falling order of their centres' products.
    """
    taking, becoming = int_of(recycled), int_of(merged)
    _, best_first = ranked(scores[0], descending=True)
    candidates = image_rows[0, best_first[torch.arange(taking) + keep]]
    tokens = hidden_states[0, candidates]
    squares = tokens.float().square().sum(dim=1)
    gram = torch.matmul(tokens.float(), tokens.float().T)
    square = ((squares[:, None] + squares[None] - 2 * gram).clamp(min=0)) / tokens.shape[1]
    same = torch.arange(taking)[:, None] == torch.arange(taking)[None, :]
    square = torch.where(same, torch.zeros(()), square)
    near = ranked(square, descending=False)[0][:, torch.arange(becoming)]
    density = torch.exp(-near.mean(dim=1))
    distance = square.sqrt()
    denser = density[None, :] > density[:, None]
    lone = torch.where(denser, distance, distance.max()).amin(dim=1)
    _, order = ranked(lone * density, descending=True)
    centres = order[torch.arange(becoming)]
    is_centre = torch.arange(taking)[:, None] == centres[None, :]
    nearest = distance[:, centres].argmin(dim=1)
    joins = (nearest[:, None] == torch.arange(becoming)[None, :]).float()
    # A centre belongs to itself, whatever lies at the same place.
    member = torch.where(is_centre.any(dim=1, keepdim=True), is_centre.float(), joins)
    means = torch.matmul(member.T, rows[0, candidates].float()) / member.sum(dim=0)[:, None]
    return means.to(rows.dtype)[None]
