"""The model of real size: its sizes as they are, and the folder at a size that a test can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtp.bench import compare, methods, real_model
from vtp.bench.measure import SAME, Comparison
from vtp.bench.sides import HuggingFace, Ours

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PARAMETERS = {
    "DECODER": 1.4e9,
    "LLAVA_7B_DECODER": 7.06e9,
    "GUIDE_DECODER": 0.52e9,
}
"""Of a decoder behind CLIP-L/14-336, projector and head included."""
_SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small decoder behind a small tower, which still sees 576 patches."""
    whole = real_model.real_config

    def config(decoder: Mapping[str, int] = real_model.DECODER) -> Any:
        made = whole(_SMALL)
        tower = made.vision_config
        tower.hidden_size, tower.intermediate_size = 32, 64
        tower.num_hidden_layers, tower.num_attention_heads = 3, 4
        return made

    monkeypatch.setattr(real_model, "real_config", config)


@pytest.mark.parametrize("decoder", PARAMETERS)
def test_sizes(decoder: str) -> None:
    config = real_model.real_config(getattr(real_model, decoder))
    with torch.device("meta"):
        model = transformers.LlavaForConditionalGeneration(config)
    count = sum(math.prod(parameter.shape) for parameter in model.parameters())
    assert count == pytest.approx(PARAMETERS[decoder], rel=0.02)


@pytest.mark.slow
def test_both_sides_read_it_alike(small: None, tmp_path: Path) -> None:
    folder, bundle = compare.prepare("real", tmp_path)
    assert compare.prepare("real", tmp_path) == (folder, bundle)
    ours, theirs = Ours(bundle, 1, 2), HuggingFace(folder, 1)
    with torch.inference_mode():
        differences = Comparison(ours, theirs, 2, machine=None).check()  # type: ignore[arg-type]
    assert set(differences) == {"pixels", "image_embeds", "logits"}
    assert max(differences.values()) <= SAME
    assert ours.kept(1.0) == 576


def test_sides_that_differ_are_not_compared(
    tiny_llava: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Ours(tiny_bundle, 1, 2), HuggingFace(tiny_llava, 1)
    comparison = Comparison(ours, theirs, 2, machine=None)  # type: ignore[arg-type]
    monkeypatch.setattr(theirs, "pixels", lambda _: torch.zeros(1, 3, 128, 128))
    with torch.inference_mode(), pytest.raises(SystemExit, match="so times mean nothing"):
        comparison.check()
    ours.tokens = [1]
    with pytest.raises(SystemExit, match="token ids differ"):
        comparison.check()


def test_the_guide_has_a_model_of_its_own(small: None, tmp_path: Path) -> None:
    sources = {methods._source("real", tmp_path, method) for method in ("none", "guide")}
    assert {Path(source).name for source in sources} == {"real-model", "real-guide-model"}
    assert np.all([(Path(source) / "complete").is_file() for source in sources])
