"""What PyTorch computes on the golden sample: the truth that the graphs answer to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ...errors import ParityFailed
from ...runtime.bundle.contract import DROP, LANGUAGE, VISION
from ...runtime.bundle.keep import Keep
from ..families.base import Family
from ..plan.sample import STEPS, Sample
from ..source.checkpoint import variant_of


@dataclass(frozen=True)
class Reference:
    """Expected tensors at some keeps."""

    keep: tuple[Keep, ...]
    scores: np.ndarray | None
    """``(tiles, tokens)`` float32 of the vision graph."""
    kept: np.ndarray
    """``(tiles, kept)`` int64."""
    image_embeds: np.ndarray
    """``(tiles, kept, width)``."""
    read: np.ndarray
    """``(n, width)``: the image tokens as the prompt reads them."""
    logits: np.ndarray
    """``(steps, vocab)``: after the prompt, then after each greedy token but the last."""
    tokens: tuple[int, ...]
    """``steps`` greedy tokens; the end token does not stop them."""
    drops: tuple[tuple[np.ndarray | None, np.ndarray], ...] = ()
    """For each drop inside the decoder: scores, and the patches left."""
    frames: int = 0
    """As for ``Sample``."""
    received: np.ndarray | None = None
    """``(tokens,)`` float32: of a guide, the attention that each image token received."""


def load_torch_model(config: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The Hugging Face model with its weights, attention unfused."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        variant=variant_of(folder),
        attn_implementation="eager",
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()


@dataclass(frozen=True)
class Plain:
    """What the Hugging Face model itself makes of the sample."""

    read: np.ndarray
    """``(n, width)``: all image tokens as the prompt reads them."""
    logits: np.ndarray
    """``(steps, vocab)``."""


def use_weights(
    model: Any,
    names: Collection[str],
    canonical_name: Callable[[str], str],
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Put other weights into linear layers, in place; an embedding table that a head shares stays.

    Args:
        model: from ``load_torch_model``.
        names: canonical names of the matrices.
        canonical_name: maps a name in the model to it.
        change: from a matrix ``(out, in)`` float32 to the one to put in its place.
    """
    named = model.named_parameters(remove_duplicate=False)
    chosen = {id(tensor) for key, tensor in named if canonical_name(key) in names}
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and id(module.weight) in chosen:
            changed = torch.from_numpy(change(module.weight.detach().numpy()))
            module.weight = torch.nn.Parameter(changed, requires_grad=False)


@torch.no_grad()
def plain_reference(family: Family, model: Any, sample: Sample, steps: int = STEPS) -> Plain:
    """Run the Hugging Face model as it is, with every image token.

    Args:
        family: of the model.
        model: from ``load_torch_model`` or ``first_layers``.
        sample: what is asked.
        steps: greedy tokens.
    """
    embeds = [family.image_features(model, one, sample.size) for one in sample.media]
    axes = len(sample.media[0].offsets)
    rows: list[torch.Tensor] = []
    numbers: list[np.ndarray] = []
    seen, number = 0, 0
    for token in sample.prompt:
        if token in sample.placeholders:
            medium = sample.media[seen]
            rows.append(embeds[seen])
            numbers.append(number + medium.offsets)
            seen, number = seen + 1, number + medium.span
        else:
            rows.append(_text_row(model, token, embeds[0].shape[-1]))
            numbers.append(np.full((axes, 1), number))
            number += 1
    inputs = torch.cat(rows)[None]
    logits = _greedy(family, model, inputs, np.concatenate(numbers, axis=1), steps)
    return Plain(torch.cat(embeds).float().numpy(), logits)


def check_unpruned(staged: Reference, plain: Plain, tolerance: float) -> None:
    """Compare the model cut into pieces, dropping nothing, with the whole one.

    Raises:
        ParityFailed: the pieces do not add up to the model.
    """
    for graph, got, want in (
        (VISION, staged.read, plain.read),
        (LANGUAGE, staged.logits, plain.logits),
    ):
        if got.shape != want.shape:
            measured = f"cut at the plan's places, PyTorch gives {got.shape}"
            raise ParityFailed(graph, measured, str(want.shape))
        difference = float(np.abs(got - want).max())
        limit = tolerance * float(np.abs(want).max())
        if not difference <= limit:
            measured = f"cut at the plan's places, PyTorch itself differs by {difference:.3g}"
            raise ParityFailed(graph, measured, f"{limit:.3g}")


def _text_row(model: Any, token: int, width: int) -> torch.Tensor:
    """``(1, row_width)``: a token's embedding, zeros in the place of planes."""
    row = model.get_input_embeddings()(torch.tensor([token]))
    return nn.functional.pad(row, (0, width - row.shape[-1]))


def _greedy(
    family: Family, model: Any, inputs: torch.Tensor, positions: np.ndarray, steps: int
) -> np.ndarray:
    """Logits ``(steps, vocab)``; ``positions (axes, tokens)`` of the prompt."""
    rows: list[torch.Tensor] = []
    cache = None
    numbers = torch.from_numpy(positions)
    for _ in range(steps):
        out = family.decode(
            model,
            inputs,
            # (axes, 1, tokens) with M-RoPE, else (1, tokens).
            position_ids=numbers[:, None] if len(numbers) > 1 else numbers,
            past_key_values=cache,
            use_cache=True,
        )
        cache = out.past_key_values
        rows.append(model.lm_head(out.last_hidden_state[:, -1])[0])
        token = int(rows[-1].argmax()) % model.config.text_config.vocab_size
        inputs = _text_row(model, token, inputs.shape[-1])[None]
        numbers = numbers.amax() + torch.ones((len(numbers), 1), dtype=torch.int64)
    return torch.stack(rows).float().numpy()


def golden_tensors(references: list[Reference]) -> Mapping[str, np.ndarray]:
    """The golden file's tensors, named as ``runtime.bundle.manifest.Golden`` says."""
    tensors: dict[str, np.ndarray] = {}
    for number, case in enumerate(references):
        tensors[f"{number}.kept"] = case.kept
        tensors[f"{number}.image_embeds"] = case.image_embeds
        tensors[f"{number}.logits"] = case.logits
        if case.scores is not None:
            tensors[f"{number}.scores"] = case.scores
        if case.received is not None:
            tensors[f"{number}.received"] = case.received
        for drop, (scores, left) in enumerate(case.drops):
            tensors[f"{number}.{DROP}.{drop}.left"] = left
            if scores is not None:
                tensors[f"{number}.{DROP}.{drop}.scores"] = scores
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}
