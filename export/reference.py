"""What PyTorch computes on the golden sample: the truth that the graphs answer to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..runtime.plan import Keep, keep_count
from ..trt_plugins.topk_tokens import topk_tokens
from .families.base import VisionParts
from .methods.base import Method

PROMPT = "What is in the picture?"
STEPS = 12
"""Greedy tokens compared."""


def sample_image() -> Image.Image:
    """A drawn picture, the same for every model: sky, ground, and a few plain things."""
    image = Image.new("RGB", (320, 240))
    draw = ImageDraw.Draw(image)
    for y in range(240):
        draw.line([(0, y), (320, y)], fill=(60 + y // 2, 120 + y // 4, 200 - y // 2))
    draw.rectangle([0, 170, 320, 240], fill=(70, 120, 60))
    draw.ellipse([30, 25, 80, 75], fill=(250, 220, 60))
    draw.rectangle([190, 110, 260, 190], fill=(170, 50, 40))
    draw.polygon([(180, 110), (225, 70), (270, 110)], fill=(90, 40, 30))
    draw.rectangle([215, 150, 235, 190], fill=(40, 30, 20))
    draw.text((110, 200), "VTP 42", fill=(255, 255, 255))
    return image


@dataclass(frozen=True)
class Reference:
    """Expected tensors of one keep."""

    keep: Keep
    scores: np.ndarray | None
    """``(1, tokens)`` float32."""
    kept: np.ndarray
    """``(1, kept)`` int64."""
    image_embeds: np.ndarray
    """``(1, kept, width)``."""
    logits: np.ndarray
    """``(steps, vocab)``: after the prompt, then after each greedy token but the last."""
    tokens: tuple[int, ...]
    """``steps`` greedy tokens; the end token does not stop them."""


class _EagerTower:
    """What a method may look at (``TowerView``), from a plain run of the tower."""

    def __init__(self, attention: torch.Tensor) -> None:
        self._attention = attention

    def cls_attention(self) -> torch.Tensor:
        return self._attention[:, :, 0, 1:].float()


def load_torch_model(config: Any, folder: Path) -> Any:
    """The Hugging Face model with its weights, float32, attention unfused."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        attn_implementation="eager",
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()


@torch.no_grad()
def reference(
    model: Any,
    parts: VisionParts,
    method: Method,
    pixel_values: np.ndarray,
    prompt: list[int],
    image_token: int,
    keep: Keep,
) -> Reference:
    """Run the Hugging Face model with the method's selection between tower and projector.

    Args:
        model: from ``load_torch_model``.
        parts: its vision parts.
        method: the pruning method.
        pixel_values: ``(1, 3, H, W)`` float32.
        prompt: token ids with one ``image_token``.
        image_token: id that stands for the image.
        keep: how much to keep.
    """
    depth = len(parts.layers)
    tower = model.model.vision_tower(
        torch.from_numpy(pixel_values), output_hidden_states=True, output_attentions=True
    )
    features = tower.hidden_states[depth][:, int(parts.has_cls) :]
    scores, kept = None, torch.arange(parts.tokens)[None]
    if method.prunes:
        found = method.scores(_EagerTower(tower.attentions[depth - 1]), features)
        scores = found.float().numpy()
        count = keep_count(keep, parts.tokens)
        kept = torch.from_numpy(topk_tokens(features.numpy(), scores, count)[1])
    chosen = torch.take_along_dim(features, kept[:, :, None], dim=1)
    embeds = model.model.multi_modal_projector(chosen)

    place = prompt.index(image_token)
    table = model.get_input_embeddings()
    before, after = torch.tensor([prompt[:place]]), torch.tensor([prompt[place + 1 :]])
    inputs = torch.cat((table(before), embeds, table(after)), dim=1)
    logits, tokens = _greedy(model, inputs)
    return Reference(keep, scores, kept.numpy(), embeds.numpy(), logits, tokens)


def _greedy(model: Any, inputs: torch.Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    rows: list[torch.Tensor] = []
    tokens: list[int] = []
    cache = None
    for _ in range(STEPS):
        out = model.model.language_model(
            inputs_embeds=inputs, past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        rows.append(model.lm_head(out.last_hidden_state[:, -1])[0])
        tokens.append(int(rows[-1].argmax()))
        inputs = model.get_input_embeddings()(torch.tensor([tokens[-1:]]))
    return torch.stack(rows).numpy(), tuple(tokens)


def golden_tensors(references: list[Reference]) -> Mapping[str, np.ndarray]:
    """The golden file's tensors, named as ``runtime.manifest.Golden`` says."""
    tensors: dict[str, np.ndarray] = {}
    for number, case in enumerate(references):
        tensors[f"{number}.kept"] = case.kept
        tensors[f"{number}.image_embeds"] = case.image_embeds
        tensors[f"{number}.logits"] = case.logits
        if case.scores is not None:
            tensors["scores"] = case.scores
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}
