"""The vision graph: encoder -> score -> TopKTokens -> projector."""

from __future__ import annotations

import torch
from torch import nn

from .families.base import VisionParts
from .methods.base import TowerView, VisionMethod
from .targets.base import Target


class TowerRun(TowerView):
    """One run of the tower up to its feature layer; what a method may look at.

    While it is traced, only what a method asks for ends up in the graph.
    """

    def __init__(self, parts: VisionParts, target: Target) -> None:
        self.has_cls = parts.has_cls
        self.depth = len(parts.layers)
        self.grid = parts.grid
        self._projector = parts.projector
        self._target = target
        self._first = int(parts.has_cls)
        self._queries: list[torch.Tensor] = []
        self._keys: list[torch.Tensor] = []
        self._hidden: torch.Tensor
        self._prompt: torch.Tensor | None = None

    def run(
        self,
        parts: VisionParts,
        pixel_values: torch.Tensor,
        keep: torch.Tensor,
        prompt: torch.Tensor | None,
    ) -> None:
        """Run the tower; the attention of every layer passes through ``attend``."""
        hidden = parts.embeddings(pixel_values)
        for layer in parts.layers:
            hidden = layer(hidden, attention_mask=None, vtp=self)
        self._hidden, self._prompt = hidden, prompt
        self.features = hidden[:, self._first :]
        self.keep = keep

    def attend(
        self,
        module: nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        """Fused attention; query and key are noted for those who score by them."""
        self._queries.append(query * scale)
        self._keys.append(key)
        return self._target.vision_attention(query, key, value, scale)

    def cls_feature(self) -> torch.Tensor:
        return self._hidden[:, : self._first]

    def cls_attention(self, layer: int = -1) -> torch.Tensor:
        query, key = self._queries[layer][:, :, :1], self._keys[layer]
        logits = torch.matmul(query, key.transpose(2, 3)).float()
        return torch.softmax(logits, dim=-1)[:, :, 0, 1:]

    def received_attention(self, layer: int = -1) -> torch.Tensor:
        query, key = self._queries[layer][:, :, self._first :], self._keys[layer]
        logits = torch.matmul(query, key.transpose(2, 3)).float()
        return torch.softmax(logits, dim=-1).mean(dim=2)[:, :, self._first :]

    def keys(self, layer: int = -1) -> torch.Tensor:
        return self._keys[layer][:, :, self._first :].mean(dim=1)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self._projector(features)
        return projected

    def prompt_embeds(self) -> torch.Tensor:
        if self._prompt is None:
            raise RuntimeError("a method that reads the prompt must say so (reads_prompt)")
        return self._prompt


class VisionGraph(nn.Module):
    """``pixel_values (images, 3, H, W), keep (1,)`` -> ``image_embeds (images, keep, width)``,
    ``kept (images, keep)``, ``scores (images, tokens)``.

    Layers after the feature layer are not run, and the projector sees only kept tokens. Without a
    method the graph has neither ``keep`` nor the last two outputs; with one that reads the prompt
    it also takes ``prompt_embeds (texts, width)``.
    """

    def __init__(self, parts: VisionParts, method: VisionMethod | None, target: Target) -> None:
        super().__init__()
        self.embeddings = parts.embeddings
        self.layers = parts.layers
        self.projector = parts.projector
        self._parts = [parts]  # in a list, so that its modules are not registered twice
        self._method = method
        self._target = target

    def forward(
        self,
        pixel_values: torch.Tensor,
        keep: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        parts = self._parts[0]
        tower = TowerRun(parts, self._target)
        # Between graphs all is float32.
        tower.run(parts, pixel_values.to(parts.dtype), keep, prompt_embeds)
        if self._method is None:
            return (self.projector(tower.features).float(),)
        embeds, *others = self._method.select(tower)
        return (embeds.float(), *others)
