"""Tessera in transformers' form, as its authors would publish it: nothing of vtp is in here."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    LlamaConfig,
    LlamaModel,
    PreTrainedConfig,
    PreTrainedModel,
)


class TesseraConfig(PreTrainedConfig):
    """A tower, a decoder, and where the plane comes from and goes to."""

    model_type = "tessera"
    sub_configs: ClassVar[dict[str, Any]] = {
        "vision_config": Dinov2WithRegistersConfig,
        "text_config": LlamaConfig,
    }

    def __init__(
        self,
        vision_config: Any = None,
        text_config: Any = None,
        image_token_id: int = 0,
        plane_state: int = 1,
        plane_layer: int = 1,
        **rest: Any,
    ) -> None:
        for name, given in (("vision_config", vision_config), ("text_config", text_config)):
            of = self.sub_configs[name]
            setattr(self, name, of(**given) if isinstance(given, dict) else given or of())
        self.image_token_id = image_token_id
        self.plane_state, self.plane_layer = plane_state, plane_layer
        super().__init__(**rest)


class TesseraModel(PreTrainedModel):
    config_class = TesseraConfig

    def __init__(self, config: TesseraConfig) -> None:
        super().__init__(config)
        tower, text = config.vision_config.hidden_size, config.text_config.hidden_size
        self.vision_tower = Dinov2WithRegistersModel._from_config(config.vision_config)
        self.projector = nn.Linear(tower, text)
        self.plane_projector = nn.Linear(tower, text)
        self.language_model = LlamaModel._from_config(config.text_config)
        self.post_init()

    def image_features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``(tiles, 3, H, W)`` -> features and plane, ``(tiles, patches, width)`` each."""
        out = self.vision_tower(pixels, output_hidden_states=True)
        first = 1 + self.config.vision_config.num_register_tokens
        early = out.hidden_states[self.config.plane_state][:, first:]
        return self.projector(out.last_hidden_state[:, first:]), self.plane_projector(early)

    def decode(self, embeds: torch.Tensor, plane: torch.Tensor, **arguments: Any) -> Any:
        """The decoder over ``embeds``; ``plane`` is added to what its ``plane_layer`` puts out."""
        layers = self.language_model.layers
        hooks = [
            layer.register_forward_hook(lambda _, __, hidden: hidden + plane)
            for number, layer in enumerate(layers)
            if number == self.config.plane_layer
        ]
        try:
            return self.language_model(inputs_embeds=embeds, **arguments)
        finally:
            for hook in hooks:
                hook.remove()


class TesseraForConditionalGeneration(PreTrainedModel):
    config_class = TesseraConfig

    def __init__(self, config: TesseraConfig) -> None:
        super().__init__(config)
        self.model = TesseraModel(config)
        text = config.text_config
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.model.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.language_model.embed_tokens = value
