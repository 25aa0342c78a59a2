"""Qwen2-VL and Qwen2.5-VL against transformers, unpruned and pruned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import vtp
from vtp.errors import BeyondLimits, OptionInvalid, ScoreNotAvailable
from vtp.export import ExportOptions, export_model
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.bundle.keep import keep_count
from vtp.runtime.bundle.plan import Extent
from vtp.runtime.bundle.variants import LimitsRecord
from vtp.runtime.engines.capacity import check_request, ranges
from vtp.runtime.engines.tensorrt import variant as building
from vtp.runtime.engines.tensorrt.variant import BuildOptions, build_variant

from .conftest import Loaded, load_all, picture
from .qwen_library import QwenLibrary

STEPS = 10
QUESTION = "where is the red circle?"
SIZES = [(64, 64), (120, 40), (24, 90), (33, 50), (9, 8)]
"""Width and height: square, wide, tall, odd, and too small for the processor."""
NAMES = ("qwen2_vl", "qwen2_5_vl")
HUB = ("Qwen/Qwen2-VL-2B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct")


def last_global_block(library: QwenLibrary) -> int:
    """The block of the tower whose attention ranks: the last in which every patch sees all."""
    vision = library.model.config.vision_config
    found: int = max(getattr(vision, "fullatt_block_indexes", [vision.depth - 1]))
    return found


@pytest.fixture(scope="module", params=[*NAMES, *HUB])
def loaded(
    request: pytest.FixtureRequest,
    model_folder: Callable[[str], Path],
    bundle_of: Callable[..., Path],
) -> Loaded:
    """The bundle of the default method."""
    bundle = bundle_of(request.param, None)
    return Loaded(model_folder(request.param), load_all(bundle), bundle)


def test_unpruned_answers_are_those_of_transformers(loaded: Loaded) -> None:
    library = QwenLibrary(loaded.folder)
    for sizes in [[size] for size in SIZES] + [[(64, 64), (120, 40)], []]:
        pictures = [picture(*size, seed=number) for number, size in enumerate(sizes)]
        expected = library.continued(library.prompt(QUESTION, len(sizes)), pictures, STEPS)
        for pipeline in loaded.pipelines.values():
            result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
            assert list(result.tokens) == expected
            assert result.image_tokens == result.image_tokens_before


def test_videos_are_read_as_transformers_does(loaded: Loaded) -> None:
    library = QwenLibrary(loaded.folder)
    frames = [picture(40, 32, seed=seed) for seed in range(4)]
    ids = [
        library.model.config.video_token_id if token == library.image_token else token
        for token in library.prompt(QUESTION, 1)
    ]
    expected = library.continued_video(ids, frames, STEPS)
    for pipeline in loaded.pipelines.values():
        result = pipeline.generate(vtp.Video(frames), QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(result.tokens) == expected
        assert len(result.kept) == 1
        few = pipeline.generate(vtp.Video(frames), QUESTION, keep=3, max_new_tokens=1)
        assert few.image_tokens == 2 * 3


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
        asked = chat.ask(pictures[0], QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(asked.tokens) == first
        asked = chat.ask(pictures[1], "and here?", keep=1.0, max_new_tokens=STEPS)
        assert list(asked.tokens) == expected


@pytest.mark.parametrize("size", SIZES[:4], ids=str)
@pytest.mark.parametrize("keep", [0.3, 3])
def test_pruned_answers_keep_what_receives_most_attention(
    size: tuple[int, int], keep: float | int, loaded: Loaded
) -> None:
    library = QwenLibrary(loaded.folder)
    image = picture(*size)
    scores = library.column_means(image, last_global_block(library)).tolist()
    order = sorted(range(len(scores)), key=lambda token: (-scores[token], token))
    kept = sorted(order[: keep_count(keep, len(scores))])
    expected = library.pruned(image, library.prompt(QUESTION, 1), STEPS, kept)
    for pipeline in loaded.pipelines.values():
        # The reference loop is plain: no penalty, as some of the published models ask for.
        settings = {"keep": keep, "max_new_tokens": STEPS, "repetition_penalty": 1.0}
        result = pipeline.generate(image, QUESTION, **settings)
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
            "not patches in their original order",
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


@pytest.mark.slow
@pytest.mark.parametrize("loaded", NAMES, indirect=True)
@pytest.mark.parametrize("target", ["onnx", "trt10"])
def test_tensorrt_rtx_builds_for_images_up_to_a_limit(
    target: str, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx-cu13")
    bundle = Path(shutil.copytree(loaded.bundle, tmp_path / "bundle"))
    monkeypatch.setattr(building, "target_for", lambda *_: target)
    options = BuildOptions(engine="tensorrt-rtx", compute_capabilities=("8.9",))
    with pytest.raises(OptionInvalid, match=r"--max-image-tokens N.*sample image has 48"):
        build_variant(bundle, options)
    variant = build_variant(bundle, replace(options, max_image_tokens=100))
    assert [engine.graph for engine in variant.engines] == ["vision", "language.0"]
    assert variant.limits == LimitsRecord(
        tokens=612,
        images=1,
        frames=0,
        tiles=1,
        rows=100,
        separators=0,
        counts=(100,),
        image_tokens=100,
    )
    plan = Bundle(bundle).manifest.plan
    sizes, values = ranges(plan, variant.limits, "vision")
    assert (sizes["tokens"], values["keep"]) == ((1, 48, 100), (1, 5, 100))
    largest = Extent(tiles=(101,), sizes=(101,))
    with pytest.raises(BeyondLimits, match=r"101, but the limit is 100.*--max-image-tokens"):
        check_request(plan, variant.limits, plan.counts(None, largest), largest, "vtp build b")
