"""What PyTorch computes on the golden sample: the truth that the graphs answer to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..errors import ParityFailed
from ..runtime.keep import Keep

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
class Sample:
    """What is asked."""

    pixel_values: np.ndarray
    """``(1, 3, H, W)`` float32."""
    prompt: list[int]
    """Token ids with one ``image_token``."""
    image_token: int


@dataclass(frozen=True)
class Reference:
    """Expected tensors at some keeps."""

    keep: tuple[Keep, ...]
    scores: np.ndarray | None
    """``(1, tokens)`` float32 of the vision graph."""
    kept: np.ndarray
    """``(1, kept)`` int64."""
    image_embeds: np.ndarray
    """``(1, kept, width)``."""
    logits: np.ndarray
    """``(steps, vocab)``: after the prompt, then after each greedy token but the last."""
    tokens: tuple[int, ...]
    """``steps`` greedy tokens; the end token does not stop them."""
    drops: tuple[tuple[np.ndarray | None, np.ndarray], ...] = ()
    """For each drop inside the decoder: scores, and the patches left."""
    received: np.ndarray | None = None
    """``(tokens,)`` float32: of a guide, the attention that each image token received."""


def load_torch_model(config: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The Hugging Face model with its weights, attention unfused."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(
        folder,
        config=config,
        dtype=dtype,
        attn_implementation="eager",
        use_safetensors=True,
        trust_remote_code=False,
    ).eval()


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
def plain_reference(model: Any, sample: Sample) -> Reference:
    """Run the Hugging Face model as it is, with every image token.

    Args:
        model: from ``load_torch_model``.
        sample: what is asked.
    """
    pixels = torch.from_numpy(sample.pixel_values).to(model.dtype)
    embeds = model.get_image_features(pixel_values=pixels).pooler_output[0][None]
    place = sample.prompt.index(sample.image_token)
    table = model.get_input_embeddings()
    before = torch.tensor([sample.prompt[:place]])
    after = torch.tensor([sample.prompt[place + 1 :]])
    inputs = torch.cat((table(before), embeds, table(after)), dim=1)
    logits, tokens = _greedy(model, inputs)
    kept = np.arange(embeds.shape[1])[None]
    return Reference((), None, kept, embeds.float().numpy(), logits, tokens)


def check_unpruned(staged: Reference, plain: Reference, tolerance: float) -> None:
    """Compare the model cut into pieces, dropping nothing, with the whole one.

    Raises:
        ParityFailed: the pieces do not add up to the model.
    """
    for graph, got, want in (
        ("vision", staged.image_embeds, plain.image_embeds),
        ("language", staged.logits, plain.logits),
    ):
        difference = float(np.abs(got - want).max())
        limit = tolerance * float(np.abs(want).max())
        if not difference <= limit:
            measured = f"cut at the plan's places, PyTorch itself differs by {difference:.3g}"
            raise ParityFailed(graph, measured, f"{limit:.3g}")


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
    return torch.stack(rows).float().numpy(), tuple(tokens)


def golden_tensors(references: list[Reference]) -> Mapping[str, np.ndarray]:
    """The golden file's tensors, named as ``runtime.manifest.Golden`` says."""
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
            tensors[f"{number}.drop.{drop}.left"] = left
            if scores is not None:
                tensors[f"{number}.drop.{drop}.scores"] = scores
    return {name: np.ascontiguousarray(array) for name, array in tensors.items()}
