"""Stage 1: the vision tower learns to name what every patch shows and to point [CLS] at it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionModel

from ..configs import CLIP_MEAN, CLIP_STD, SampleConfig
from ..drawing import COLOURS, SHAPES
from .dataset import TrainingScenes
from .labels import CLASSES, FIELDS, TILE
from .optimisers import Optimisers, load_checkpoint, save_checkpoint, split_matrices

_BACKGROUND_WEIGHT = 0.15
_ROW_WEIGHT = 0.4
_PRESENCE_WEIGHT = 10.0
_PRESENCE_EVERY = 3
_PAIRS = len(COLOURS) * len(SHAPES)
_PRESENCE = _PAIRS + 10


def pixel_values(images: np.ndarray) -> torch.Tensor:
    """(batch, side, side, 3) uint8 -> (batch, 3, side, side) as the processor normalises it."""
    pixels = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(CLIP_MEAN), torch.tensor(CLIP_STD)
    return (pixels - mean[:, None, None]) / std[:, None, None]


def run_tower(tower: CLIPVisionModel, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of layer -2 and the [CLS] row that FasterVLM scores by.

    Returns (batch, 1 + patches, width) and (batch, patches): the softmaxed attention of [CLS] in
    the layer whose output the features are, mean over heads.
    """
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    layers = tower.encoder.layers[:-1]
    for layer in layers[:-1]:
        hidden = layer(hidden, None)
    scored: Any = layers[-1]
    attention, normed = scored.self_attn, scored.layer_norm1(hidden)
    batch, tokens, width = normed.shape
    heads, size = attention.num_heads, width // attention.num_heads
    query = attention.q_proj(normed[:, :1]).view(batch, 1, heads, size).transpose(1, 2)
    key = attention.k_proj(normed).view(batch, tokens, heads, size).transpose(1, 2)
    weights = (query.float() @ key.float().transpose(-1, -2) * size**-0.5).softmax(-1)
    return scored(hidden, None), weights.mean(1)[:, 0, 1:]


class PatchHeads(nn.Module):
    """Linear readings of the features and of the last [CLS] output; only used in training."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.sizes = [CLASSES[name] for name in FIELDS] + [grid, grid]
        self.norm = nn.LayerNorm(width)
        self.patch = nn.Linear(width, sum(self.sizes))
        self.presence = nn.Linear(width, _PRESENCE)

    def patch_loss(self, features: torch.Tensor, planes: torch.Tensor) -> torch.Tensor:
        """Weighted cross-entropy of all label planes plus each patch's row and column.

        `features` is (batch, patches, width), `planes` (batch, fields, patches) integer.
        """
        grid = self.sizes[-1]
        logits = self.patch(self.norm(features)).float().split(self.sizes, -1)
        shown = planes[:, FIELDS.index("shape")] > 0
        weight = torch.where(shown, 1.0, _BACKGROUND_WEIGHT)
        loss = features.new_zeros((), dtype=torch.float32)
        for i, part in enumerate(logits[: len(FIELDS)]):
            each = F.cross_entropy(part.flatten(0, 1), planes[:, i].flatten(), reduction="none")
            loss = loss + (each.view_as(weight) * weight).sum() / weight.sum()
        place = torch.arange(grid * grid).expand(len(features), -1).flatten()
        for part, target in ((logits[-2], place // grid), (logits[-1], place % grid)):
            loss = loss + 0.1 * F.cross_entropy(part.flatten(0, 1), target)
        return loss

    @torch.no_grad()
    def patch_scores(self, features: torch.Tensor, planes: torch.Tensor) -> str:
        """Accuracy of each plane on patches that show something, as text."""
        logits = self.patch(self.norm(features)).float().split(self.sizes, -1)
        shown = planes[:, FIELDS.index("shape")] > 0
        digits = planes[:, FIELDS.index("digit")] > 0
        parts = []
        for i, name in enumerate(FIELDS):
            where = digits if name in ("digit", "place") else shown
            right = (logits[i].argmax(-1) == planes[:, i])[where].float().mean()
            parts.append(f"{name} {right:.3f}")
        return " ".join(parts)


def presence_targets(planes: torch.Tensor) -> torch.Tensor:
    """Which (colour, shape) pairs and digits are in each picture, (batch, 74) float32."""
    colour, shape, digit = (planes[:, FIELDS.index(n)] for n in ("colour", "shape", "digit"))
    pair = torch.where((shape > 0) & (shape < TILE), (colour - 1) * len(SHAPES) + shape, 0)
    found = torch.zeros(len(planes), _PRESENCE + 1)
    found.scatter_(1, pair, 1.0)
    found.scatter_(1, torch.where(digit > 0, _PAIRS + digit, 0), 1.0)
    return found[:, 1:]


def train_tower(
    config: SampleConfig, tower: CLIPVisionModel, scenes: TrainingScenes, work: Path
) -> None:
    """Train the tower in place; resumes from `work/tower.pt`."""
    torch.manual_seed(config.seed)
    heads = PatchHeads(config.vision_width, config.grid)
    modules: dict[str, nn.Module] = {"tower": tower, "heads": heads}
    matrices, others = split_matrices(tower.encoder.layers, tower, heads)
    optimisers = Optimisers(matrices, others, steps=config.tower_steps)
    path = work / "tower.pt"
    first = load_checkpoint(path, modules, optimisers)
    began, presence = time.perf_counter(), torch.zeros(())
    for step in range(first, config.tower_steps):
        rng = np.random.default_rng([config.seed, 2, step])
        picked = np.sort(rng.choice(config.scenes, config.tower_batch, replace=False))
        planes = torch.from_numpy(scenes.planes[picked].astype(np.int64))
        wanted = torch.from_numpy(scenes.wanted[picked].astype(np.float32))
        with torch.autocast("cpu", torch.bfloat16):
            hidden, row = run_tower(tower, pixel_values(scenes.images[picked]))
            loss = heads.patch_loss(hidden[:, 1:], planes)
            pull = -(wanted * (row + 1e-6).log()).sum(-1).mean()
            loss = loss + _ROW_WEIGHT * pull
            if step % _PRESENCE_EVERY == 0:
                # The features do not pass the last layer: a third of the steps is enough.
                summary = tower.post_layernorm(tower.encoder.layers[-1](hidden, None)[:, 0])
                logits = heads.presence(summary).float()
                presence = F.binary_cross_entropy_with_logits(logits, presence_targets(planes))
                loss = loss + _PRESENCE_WEIGHT * presence
        loss.backward()
        optimisers.step(step)
        if (step + 1) % 50 == 0:
            scores = heads.patch_scores(hidden[:, 1:].detach().float(), planes)
            mass = float((row.detach() * (planes[:, 1] > 0)).sum(-1).mean())
            seconds = (time.perf_counter() - began) / (step + 1 - first)
            print(
                f"tower {step + 1}/{config.tower_steps} loss {loss.item():.3f}"
                f" pull {pull.item():.3f} mass {mass:.3f} {scores}"
                f" presence {presence.item():.4f} {seconds:.2f} s/step",
                file=sys.stderr,
                flush=True,
            )
        if (step + 1) % 100 == 0 or step + 1 == config.tower_steps:
            save_checkpoint(path, step + 1, modules, optimisers)
