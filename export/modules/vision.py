"""The vision graph: encoder -> score -> TopKTokens -> projector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ..methods.base import TowerView, VisionMethod
from ..ops.attention import attention_by
from ..ops.vision_attention import vision_attention
from ..parts.vision import VisionParts
from .base import GraphModule


class TowerRun(TowerView):
    """One run of the tower up to its feature layer; what a method may look at.

    While it is traced, only what a method asks for ends up in the graph.
    """

    def __init__(self, parts: VisionParts) -> None:
        self.has_cls = parts.has_cls
        self.depth = len(parts.scored)
        self._parts = parts
        self._first = parts.leading
        self._queries: list[torch.Tensor] = []
        self._keys: list[torch.Tensor] = []
        self._sources: list[torch.Tensor]
        self._widths: list[int]
        self._mask: torch.Tensor | None = None
        self._prompt: torch.Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        return self._parts.grid

    def run(
        self,
        image: Mapping[str, torch.Tensor],
        keep: torch.Tensor | None,
        prompt: torch.Tensor | None,
    ) -> None:
        """Run the tower; the attention of every layer passes through ``attend``."""
        parts = self._parts
        hidden, arguments = parts.embed(image)
        masks, states = parts.masks(image), {0: hidden}
        read = {*parts.joined, *(plane.state for plane in parts.planes)}
        with attention_by(self):
            layers = zip(masks, parts.layers, strict=True)
            for number, (self._mask, layer) in enumerate(layers, start=1):
                hidden = layer(hidden, **arguments)
                if number in read:
                    states[number] = hidden
        if parts.norm is not None:
            hidden = parts.norm(hidden)
        if parts.joined:
            hidden = torch.cat([states[number] for number in parts.joined], dim=-1)
        self._sources = [parts.of_images(hidden)]
        self._sources += [parts.of_images(states[plane.state]) for plane in parts.planes]
        of_tokens = [self._merged(source[:, self._first :]) for source in self._sources]
        self._widths = [part.shape[-1] for part in of_tokens]
        self.features, self.states, self._prompt = of_tokens[0], _joined(of_tokens), prompt
        if keep is not None:
            self.keep = keep

    def _merged(self, patches: torch.Tensor) -> torch.Tensor:
        merge = self._parts.merge
        return patches if merge is None else merge.features(patches)

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
        return vision_attention(query, key, value, scale, self._mask)

    def cls_states(self) -> torch.Tensor:
        return _joined([source[:, :1] for source in self._sources])

    def cls_attention(self, layer: int = -1) -> torch.Tensor:
        layer = self._parts.scored[layer]
        query, key = self._queries[layer][:, :, :1], self._keys[layer]
        logits = torch.matmul(query, key.transpose(2, 3)).float()
        return self._of_tokens(torch.softmax(logits, dim=-1)[:, :, 0, self._first :])

    def received_attention(self, layer: int = -1) -> torch.Tensor:
        layer = self._parts.scored[layer]
        query, key = self._queries[layer][:, :, self._first :], self._keys[layer]
        received = []
        # Head by head: of all heads at once, 4000 patches would need a gigabyte.
        for head in range(query.shape[1]):
            logits = torch.matmul(query[:, head], key[:, head].transpose(1, 2)).float()
            received.append(torch.softmax(logits, dim=-1).mean(dim=1)[:, self._first :])
        return self._of_tokens(torch.stack(received, dim=1))

    def keys(self, layer: int = -1) -> torch.Tensor:
        keys = self._keys[self._parts.scored[layer]][:, :, self._first :].mean(dim=1)
        return self._of_tokens(keys.transpose(1, 2)).transpose(1, 2)

    def _of_tokens(self, values: torch.Tensor) -> torch.Tensor:
        """Numbers of patches ``(..., patches)`` -> of image tokens ``(..., tokens)``."""
        merge = self._parts.merge
        return values if merge is None else merge.scores(values)

    def project(self, features: torch.Tensor) -> torch.Tensor:
        projected: torch.Tensor = self._parts.projector(features)
        return projected

    def rows(self, states: torch.Tensor) -> torch.Tensor:
        own, *others = states.split(self._widths, dim=-1) if self._parts.planes else (states,)
        planes = zip(self._parts.planes, others, strict=True)
        return _joined([self.project(own), *(plane.projector(state) for plane, state in planes)])

    def prompt_embeds(self) -> torch.Tensor:
        if self._prompt is None:
            raise RuntimeError("a method that reads the prompt must say so (reads_prompt)")
        return self._prompt


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Side by side, along the last axis."""
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


class VisionGraph(GraphModule):
    """``contract.VISION_KIND``: layers after the feature layer are not run, and the projector sees
    only kept tokens.

    Args:
        parts: the vision side of the model.
        method: what selects; None: nothing is selected.
    """

    def __init__(self, parts: VisionParts, method: VisionMethod | None) -> None:
        super().__init__()
        self.tower = nn.ModuleDict(parts.modules())
        self._parts = [parts]  # in a list, so that its modules are not registered twice
        self._method = method

    def arguments(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        of_image = [spec.name for spec in self._parts[0].inputs]
        rest = {name: value for name, value in inputs.items() if name not in of_image}
        return {"image": {name: inputs[name] for name in of_image}, **rest}

    def forward(
        self,
        image: Mapping[str, torch.Tensor],
        keep: torch.Tensor | None = None,
        prompt_embeds: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        parts = self._parts[0]
        tower = TowerRun(parts)
        # Between graphs all is float32.
        tower.run(
            {k: v.to(parts.dtype) if v.is_floating_point() else v for k, v in image.items()},
            keep,
            prompt_embeds,
        )
        if self._method is None:
            embeds = tower.rows(tower.states).float()
            lead = [tower.rows(tower.cls_states()).float()] if parts.keeps_cls else []
            return (torch.cat((*lead, embeds), dim=1),)
        embeds, kept, scores = self._method.select(tower)
        if parts.keeps_cls:
            embeds = torch.cat((tower.rows(tower.cls_states()), embeds), dim=1)
            kept = torch.cat((torch.full_like(kept[:, :1], -1), kept), dim=1)
        return embeds.float(), kept, scores
