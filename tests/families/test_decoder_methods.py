"""Methods inside the decoder on an image of several tiles, where separators are tokens too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import vtp
from vtp.errors import GuideMismatch

from ..export.staged_oracle import Oracle, OracleDrop, Rows
from .conftest import load_all, picture
from .library import Library

QUESTION = "where is the red circle?"
STEPS = 8
CASES: dict[str, tuple[tuple[OracleDrop, ...], str, tuple[float, ...]]] = {
    "fastv": ((OracleDrop(layer=2, score="last-row"),), "original", (0.4,)),
    "schedule": (
        (OracleDrop(layer=1, score="last-row"), OracleDrop(layer=2, score="next-layer")),
        "original",
        (0.5, 0.2),
    ),
}
"""Method -> what it drops in a decoder of three layers, positions, keeps."""
OPTIONS = {"schedule": {"stages": ("1:0.5:attention", "2:0.2:next-attention")}}


class TilesOracle(Oracle):
    """The oracle of the methods, on LLaVA-NeXT's own packing of an image."""

    def __init__(self, folder: Path) -> None:
        self.library = Library(folder)
        self.model = self.library.model
        self.ends = self.model.generation_config.eos_token_id

    def rows(self, size: tuple[int, int]) -> Rows:
        """A question about a picture of this size."""
        (features,) = self.library.features([picture(*size)])
        ids = self.library.prompt(QUESTION, 1)
        at = ids.index(self.model.config.image_token_id)
        count = len(features)
        image = torch.full((len(ids) - 1 + count,), -1)
        patch = image.clone()
        image[at : at + count], patch[at : at + count] = 0, torch.arange(count)
        return Rows(
            embeds=self.library.embedded(features, QUESTION)[0],
            image=image,
            patch=patch,
            turn=torch.zeros(len(image), dtype=torch.long),
            given={"vision": np.zeros((1, count), np.float32)},
        )


@pytest.mark.parametrize("name", ["llava_next", "llava-hf/llava-v1.6-vicuna-7b-hf"])
@pytest.mark.parametrize("method", CASES)
@pytest.mark.parametrize("size", [(64, 64), (200, 60)])
def test_answers_are_those_of_the_papers_code(
    name: str,
    method: str,
    size: tuple[int, int],
    model_folder: Callable[[str], Path],
    bundle_of: Callable[..., Path],
) -> None:
    drops, positions, keeps = CASES[method]
    oracle = TilesOracle(model_folder(name))
    expected = oracle.answer(
        oracle.rows(size), drops=drops, positions=positions, keeps=keeps, steps=STEPS
    )
    bundle = bundle_of(name, method, keep=None, **OPTIONS.get(method, {}))
    for pipeline in load_all(bundle).values():
        result = pipeline.generate(picture(*size), QUESTION, keep=keeps, max_new_tokens=STEPS)
        assert list(result.tokens) == expected.tokens
        for stage, truth in zip(result.stages, expected.stages, strict=True):
            assert stage.image_tokens == truth.image_tokens


def test_a_guide_that_has_other_image_tokens_is_refused(bundle_of: Callable[..., Path]) -> None:
    """Dropping in the vision graph leaves a large mosaic unshrunken, and the guide shrinks it."""
    guide = bundle_of("llava_onevision", "guide", ("ort",))
    parameters = {"score": "column-mean"}
    bundle = bundle_of("llava_onevision", "fastervlm+sgl", ("ort",), parameters=parameters)
    large = vtp.load(bundle, guide=guide)
    small, big = picture(40, 40), picture(190, 190)
    assert large.generate(small, QUESTION, keep=(0.5, 0.25), max_new_tokens=2).guide is not None
    whole = large.generate(big, QUESTION, keep=1.0, max_new_tokens=2)
    assert whole.guide is not None
    with pytest.raises(GuideMismatch, match="number of image tokens"):
        large.generate(big, QUESTION, keep=(0.5, 0.25), max_new_tokens=2)
