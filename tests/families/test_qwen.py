"""Qwen2-VL and Qwen2.5-VL against transformers, unpruned and pruned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vtp.errors import OptionInvalid, ScoreNotAvailable
from vtp.export import ExportOptions, export_model
from vtp.runtime.keep import keep_count

from .conftest import Loaded, load_all, picture
from .qwen_library import QwenLibrary

STEPS = 10
QUESTION = "where is the red circle?"
SIZES = [(64, 64), (120, 40), (24, 90), (33, 50), (9, 8)]
"""Width and height: square, wide, tall, odd, and too small for the processor."""
NAMES = {"qwen2_vl": 3, "qwen2_5_vl": 2}
"""The block of the tower whose attention ranks: the last in which every patch sees all."""


@pytest.fixture(scope="module", params=NAMES)
def loaded(
    request: pytest.FixtureRequest,
    model_folder: Callable[[str], Path],
    bundle_of: Callable[..., Path],
) -> Loaded:
    """The bundle of the default method."""
    return Loaded(model_folder(request.param), load_all(bundle_of(request.param, None)))


def test_unpruned_answers_are_those_of_transformers(loaded: Loaded) -> None:
    library = QwenLibrary(loaded.folder)
    for sizes in [[size] for size in SIZES] + [[(64, 64), (120, 40)], []]:
        pictures = [picture(*size, seed=number) for number, size in enumerate(sizes)]
        expected = library.continued(library.prompt(QUESTION, len(sizes)), pictures, STEPS)
        for pipeline in loaded.pipelines.values():
            result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
            assert list(result.tokens) == expected
            assert result.image_tokens == result.image_tokens_before


def test_a_second_turn_counts_on_behind_the_images(loaded: Loaded) -> None:
    """Text follows the larger side of an image in M-RoPE, in the turns that come too."""
    library = QwenLibrary(loaded.folder)
    pictures = [picture(120, 40), picture(40, 64, seed=1)]
    opening = library.prompt(QUESTION, 1)
    first = library.continued(opening, pictures[:1], STEPS)
    answered = first[:-1] if first[-1] in library.eos else first
    second = library.tokenizer(
        "<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>and here?"
        "<|im_end|>\n<|im_start|>assistant\n",
        add_special_tokens=False,
    )["input_ids"]
    expected = library.continued([*opening, *answered, *second], pictures, STEPS)
    for pipeline in loaded.pipelines.values():
        chat = pipeline.chat()
        asked = chat.ask(QUESTION, pictures[0], keep=1.0, max_new_tokens=STEPS)
        assert list(asked.tokens) == first
        asked = chat.ask("and here?", pictures[1], keep=1.0, max_new_tokens=STEPS)
        assert list(asked.tokens) == expected


@pytest.mark.parametrize("size", SIZES[:4], ids=str)
@pytest.mark.parametrize("keep", [0.3, 3])
def test_pruned_answers_keep_what_receives_most_attention(
    size: tuple[int, int], keep: float | int, loaded: Loaded
) -> None:
    library = QwenLibrary(loaded.folder)
    image = picture(*size)
    scores = library.column_means(image, NAMES[library.model.config.model_type]).tolist()
    order = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    kept = sorted(order[: keep_count(keep, len(scores))])
    expected = library.pruned(image, library.prompt(QUESTION, 1), STEPS, kept)
    for pipeline in loaded.pipelines.values():
        result = pipeline.generate(image, QUESTION, keep=keep, max_new_tokens=STEPS)
        assert result.kept[0].tolist() == kept
        assert list(result.tokens) == expected
        assert result.image_tokens_before == len(scores)


def test_fastv_drops_inside_the_decoder_and_numbers_stay(
    model_folder: Callable[[str], Path], bundle_of: Callable[..., Path]
) -> None:
    library = QwenLibrary(model_folder("qwen2_vl"))
    bundle = bundle_of("qwen2_vl", "fastv", targets=("ort",))
    (pipeline,) = load_all(bundle, targets=("ort",)).values()
    for size in SIZES[:4]:
        image = picture(*size)
        result = pipeline.generate(image, QUESTION, keep=5, max_new_tokens=STEPS)
        expected = library.fastv(image, library.prompt(QUESTION, 1), STEPS, layer=2, count=5)
        assert list(result.tokens) == expected
        assert result.stages[1].image_tokens == 5


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"method": "fastervlm"}, ScoreNotAvailable, "score=column-mean"),
        ({"method": "uniform"}, ScoreNotAvailable, "grids of any size"),
        ({"method": "random"}, ScoreNotAvailable, "grids of any size"),
        (
            {"method": "fopru", "parameters": {"score": "column-mean", "strategy": "row"}},
            ScoreNotAvailable,
            "grids of any size",
        ),
        (
            {"method": "visionzip", "parameters": {"score": "column-mean"}},
            ScoreNotAvailable,
            "by their row and column",
        ),
        ({"method": "fastv", "positions": "compact"}, OptionInvalid, "original: this model"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_with_the_reason(
    options: dict[str, object],
    error: type[Exception],
    match: str,
    model_folder: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = model_folder("qwen2_vl")
    with pytest.raises(error, match=match):
        export_model(str(folder), tmp_path / "out", ExportOptions(**options))
