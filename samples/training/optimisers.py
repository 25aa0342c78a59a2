"""Muon for the matrices inside layers, AdamW for the rest, and checkpoints of a training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn


class Optimisers:
    """Both optimisers under one cosine schedule with a short warm-up."""

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        *,
        steps: int,
        matrix_lr: float = 2e-3,
        other_lr: float = 1e-3,
    ) -> None:
        self.steps = steps
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                list(matrices), lr=matrix_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(list(others), lr=other_lr, weight_decay=0.0, betas=(0.9, 0.98)),
        ]
        self.peaks = (matrix_lr, other_lr)
        self.parameters = [p for part in self.parts for g in part.param_groups for p in g["params"]]

    def step(self, step: int) -> None:
        """Apply the gradients of training step `step` and clear them."""
        warm = min(1.0, (step + 1) / 60)
        factor = warm * (0.02 + 0.98 * (1 + math.cos(math.pi * min(1.0, step / self.steps))) / 2)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part, peak in zip(self.parts, self.peaks, strict=True):
            for group in part.param_groups:
                group["lr"] = peak * factor
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """States of both, in order."""
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Counterpart of `state_dict`."""
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


def split_matrices(
    layers: nn.Module, *rest: nn.Module
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Matrices inside `layers`; everything else of `layers` and of `rest`."""
    matrices = [p for p in layers.parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    others = {id(p): p for module in (layers, *rest) for p in module.parameters()}
    return matrices, [p for key, p in others.items() if key not in known]


def save_checkpoint(
    path: Path, step: int, modules: dict[str, nn.Module], optimisers: Optimisers
) -> None:
    """Write a checkpoint so that a kill at any moment leaves a whole one."""
    partial = path.with_suffix(".partial")
    state = {name: module.state_dict() for name, module in modules.items()}
    torch.save({"step": step, "modules": state, "optimisers": optimisers.state_dict()}, partial)
    partial.replace(path)


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimisers: Optimisers) -> int:
    """Load a checkpoint if there is one; the number of steps already made."""
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(saved["modules"][name])
    optimisers.load_state_dict(saved["optimisers"])
    return int(saved["step"])
