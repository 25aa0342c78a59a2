"""LLaVA-NeXT and LLaVA-OneVision against transformers, unpruned and pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vtp.runtime.bundle.keep import keep_count

from .conftest import load_all, picture
from .library import Library, OneVisionLibrary

STEPS = 16
QUESTION = "where is the red circle?"
SIZES = [(64, 64), (200, 60), (48, 190), (90, 70), (33, 32)]
NAMES = ["llava_next", "llava_next-mistral", "llava_onevision"]
OPTIONS = {"llava_onevision": {"parameters": {"score": "column-mean"}}}


@pytest.mark.parametrize("name", NAMES)
def test_unpruned_answers_are_those_of_transformers(
    name: str, model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    kind = OneVisionLibrary if name == "llava_onevision" else Library
    library = kind(model_folder(name))
    pipelines = load_all(bundle_of(name, **OPTIONS.get(name, {})))
    for images in [[size] for size in SIZES] + [[(64, 64), (200, 60)], []]:
        pictures = [picture(*size, seed=number) for number, size in enumerate(images)]
        expected = library.answer(pictures, QUESTION, STEPS)
        for pipeline in pipelines.values():
            result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
            assert list(result.tokens) == expected
            assert result.image_tokens == result.image_tokens_before


@pytest.mark.parametrize("name", ["llava_next", "llava-hf/llava-v1.6-mistral-7b-hf"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("keep", [0.5, 3])
def test_pruned_answers_keep_the_best_of_every_tile(
    name: str,
    size: tuple[int, int],
    keep: float | int,
    model_folder: Callable[[str], Path],
    bundle_of: Callable[..., Path],
) -> None:
    """Of FasterVLM: mask the packed sequence by each tile's best, separators always stay."""
    library = Library(model_folder(name))
    image = picture(*size)
    count = keep_count(keep, 16)
    pixels, sizes = library.pixels([image]).values()
    model = library.model
    with torch.no_grad():
        tower = model.model.vision_tower(
            pixels[0], output_hidden_states=True, output_attentions=True
        )
        layer = model.config.vision_feature_layer
        scores = tower.attentions[layer][:, :, 0, 1:].mean(dim=1)
        features = model.model.multi_modal_projector(tower.hidden_states[layer][:, 1:])
        mask = torch.zeros_like(scores)
        for tile, row in enumerate(scores.tolist()):
            best = sorted(range(16), key=lambda j, row=row: (-row[j], j))[:count]
            mask[tile, best] = 1
        # The library itself packs features and marks alike; a separator is marked.
        marked = torch.cat((features, mask[..., None].expand(-1, -1, 1)), dim=-1)
        newline = torch.cat((model.model.image_newline, torch.ones(1)))
        (packed,), _ = model.model.pack_image_features([marked], sizes, "default", newline)
        embeds = packed[packed[:, -1] > 0, :-1]
        expected = library.continue_from(library.embedded(embeds, QUESTION), STEPS)
    for pipeline in load_all(bundle_of(name)).values():
        result = pipeline.generate(image, QUESTION, keep=keep, max_new_tokens=STEPS)
        assert list(result.tokens) == expected
        assert result.image_tokens == len(embeds)
        assert result.image_tokens_before == len(packed)
        np.testing.assert_array_equal(result.kept[0], np.flatnonzero(packed[:, -1] > 0))
