"""The graph that makes fewer image tokens of a large mosaic, by bilinear means."""

from __future__ import annotations

import torch

from .base import GraphModule


class ShrinkGraph(GraphModule):
    """``contract.SHRINK_KIND``: weighted means of four tokens of all tiles together.

    LLaVA-OneVision shrinks what an image of more than nine tiles' worth has (arXiv 2408.03326,
    section 3.2); which four and how much of each follows from the image's size alone.
    """

    def forward(
        self, image_embeds: torch.Tensor, index: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        tokens = image_embeds.flatten(0, 1)
        return (tokens[index] * weight[..., None]).sum(dim=1)[None]
