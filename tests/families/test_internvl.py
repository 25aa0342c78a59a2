"""InternVL against transformers, unpruned and pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from vtp.errors import ScoreNotAvailable
from vtp.export import ExportOptions, export_model

from .conftest import load_all, picture
from .library import InternVlLibrary

STEPS = 16
QUESTION = "where is the red circle?"
SIZES = [(64, 64), (200, 60), (48, 190), (90, 70), (20, 20)]


@pytest.mark.parametrize("name", ["internvl", "internvl-6b"])
def test_unpruned_answers_are_those_of_transformers(
    name: str, model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    library = InternVlLibrary(model_folder(name))
    pipelines = load_all(bundle_of(name))
    for images in [[size] for size in SIZES] + [[(64, 64), (200, 60)], []]:
        pictures = [picture(*size, seed=number) for number, size in enumerate(images)]
        expected = library.answer(pictures, QUESTION, STEPS)
        for pipeline in pipelines.values():
            result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
            assert list(result.tokens) == expected


@pytest.mark.parametrize("name", ["internvl", "OpenGVLab/InternVL3-1B-hf"])
@pytest.mark.parametrize("size", SIZES)
def test_pruned_answers_keep_the_best_of_every_tile(
    name: str,
    size: tuple[int, int],
    model_folder: Callable[[str], Path],
    bundle_of: Callable[..., Path],
) -> None:
    """The attention that [CLS] pays to the four patches of a token, in the mean."""
    library = InternVlLibrary(model_folder(name))
    image, model = picture(*size), library.model
    pixels = library.pixels([image])["pixel_values"]
    with torch.no_grad():
        tower = model.model.vision_tower(pixels, output_attentions=True)
        attention = tower.attentions[-1][:, :, 0, 1:].mean(dim=1).reshape(-1, 8, 8)
    rows: list[torch.Tensor] = []
    kept: list[int] = []
    features = library.features([image])[0].reshape(len(pixels), 16, -1)
    for tile, of_patches in enumerate(attention.numpy()):
        scores = [
            of_patches[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean()
            for row in range(4)
            for column in range(4)
        ]
        best = sorted(sorted(range(16), key=lambda j: (-scores[j], j))[:5])
        rows.append(features[tile][best])
        kept += [tile * 16 + token for token in best]
    expected = library.continue_from(library.embedded(torch.cat(rows), QUESTION), STEPS)
    for pipeline in load_all(bundle_of(name)).values():
        result = pipeline.generate(image, QUESTION, keep=5, max_new_tokens=STEPS)
        np.testing.assert_array_equal(result.kept[0], kept)
        assert list(result.tokens) == expected


def test_methods_that_need_a_token_for_every_patch_are_refused(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ScoreNotAvailable, match="visionzip"):
        export_model(
            str(model_folder("internvl")), tmp_path / "out", ExportOptions(method="visionzip")
        )
