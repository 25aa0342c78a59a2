"""The vision graph: encoder -> score -> TopKTokens -> projector."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from .families.base import VisionParts
from .methods.base import Method, TowerView
from .targets.base import Target
from .topk_op import topk_tokens


class TowerRun(TowerView):
    """One traced run of the tower up to its feature layer; what a method may look at."""

    def __init__(self, target: Target, has_cls: bool, scored_layer: nn.Module) -> None:
        self._target = target
        self._has_cls = has_cls
        self._scored = scored_layer
        self._cls_row: torch.Tensor | None = None

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Fused attention; beside it, in the scored layer, the one row of the [CLS] token."""
        if self._has_cls and module is self._scored:
            logits = torch.matmul(query[:, :, :1] * scale, key.transpose(2, 3)).float()
            self._cls_row = torch.softmax(logits, dim=-1)[:, :, 0, 1:]
        return self._target.vision_attention(query, key, value, scale)

    def cls_attention(self) -> torch.Tensor:
        if self._cls_row is None:
            raise RuntimeError("this tower has no [CLS] token")
        return self._cls_row


class VisionGraph(nn.Module):
    """``pixel_values (images, 3, H, W), keep (1,)`` -> ``image_embeds (images, keep, width)``,
    ``kept (images, keep)``, ``scores (images, tokens)``.

    Layers after the feature layer are not run, and the projector sees only kept tokens. Without a
    scoring method the graph has neither ``keep`` nor the last two outputs.
    """

    def __init__(self, parts: VisionParts, method: Method, target: Target) -> None:
        super().__init__()
        self.embeddings = parts.embeddings
        self.layers = parts.layers
        self.projector = parts.projector
        self._has_cls = parts.has_cls
        self._method = method
        self._target = target

    def forward(
        self, pixel_values: torch.Tensor, keep: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        scored = cast(nn.Module, self.layers[-1].self_attn)
        run = TowerRun(self._target, self._has_cls, scored)
        hidden = self.embeddings(pixel_values)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=None, vtp=run)
        features = hidden[:, 1:] if self._has_cls else hidden
        if keep is None:
            return (self.projector(features),)
        scores = self._method.scores(run, features)
        kept_features, kept = topk_tokens(features, scores, keep)
        return self.projector(kept_features), kept, scores
