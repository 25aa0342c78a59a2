"""Settings of a configuration that transformers takes: rotary embeddings, windows, the features of
a tower, sampling. Answers are those of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, MistralConfig, Qwen2Config
from transformers import LlavaForConditionalGeneration as Llava

import vtp
from vtp.errors import ContextTooLong, ModelNotSupported
from vtp.export import ExportOptions, Progress, export_model
from vtp.export.source.generation import generation_defaults, ignored_settings

from ..families.conftest import picture
from ..families.library import VideoLlavaLibrary

QUESTION = "what number is shown?"
STEPS = 8
CONTEXT = 128
COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "preprocessor_config.json",
)


class Notes(Progress):
    """Keeps what an export notes."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def llava(random_llava: Path, tmp_path: Path) -> Callable[..., Path]:
    """Makes a small LLaVA of random weights with some settings."""

    def make(decoder: Any = LlamaConfig, text: Any = None, **whole: Any) -> Path:
        sample = json.loads((random_llava / "config.json").read_text())
        ends = {key: sample[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        sizes = {
            "vocab_size": sample["text_config"]["vocab_size"],
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.2,
        }
        vision = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
            initializer_range=0.2,
        )
        config = LlavaConfig(
            vision_config=vision,
            text_config=decoder(**sizes | ends | (text or {})),
            image_token_index=sample["image_token_index"],
            tie_word_embeddings=False,
            **ends,
            **whole,
        )
        folder = tmp_path / "model"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            Llava(config).save_pretrained(folder)
        for name in COPIED:
            shutil.copy(random_llava / name, folder / name)
        return folder

    return make


def compared(folder: Path, out: Path, options: ExportOptions, told: Notes | None = None) -> Any:
    """Export, and compare greedy answers with those of transformers; returns the pipeline."""
    export_model(str(folder), out, options, told)
    library = VideoLlavaLibrary(folder)
    for pictures in ([picture(64, 64)], [picture(90, 40), picture(33, 70, seed=1)]):
        expected = library.answer(pictures, QUESTION, STEPS)
        for target in ("ort", "onnx"):
            pipeline = vtp.load(out, target=target)
            result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
            assert list(result.tokens) == expected
    return pipeline


# --- positions -------------------------------------------------------------------------------

ROPES: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
        "long_factor": [2.0] * 8,
        "factor": 2.0,
        "original_max_position_embeddings": CONTEXT,
    },
}


@pytest.mark.parametrize("kind", ROPES)
def test_rotary_embeddings_are_those_of_transformers(
    kind: str, llava: Callable[..., Path], tmp_path: Path
) -> None:
    rope = {"rope_theta": 10_000.0, **ROPES[kind]}
    folder = llava(text={"rope_parameters": rope})
    compared(folder, tmp_path / "out", ExportOptions())


def test_qwen_with_yarn_is_taken(made_once: Any, tmp_path: Path) -> None:
    """As the model's page says for long texts."""
    from ..families.qwen_library import QwenLibrary
    from ..families.tiny import make

    folder = Path(
        shutil.copytree(
            made_once("family-qwen2_5_vl", lambda f: make("qwen2_5_vl", f)), tmp_path / "model"
        )
    )
    config = json.loads((folder / "config.json").read_text())
    rope = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
    config["text_config"]["rope_parameters"] |= rope
    (folder / "config.json").write_text(json.dumps(config))
    export_model(str(folder), tmp_path / "out", ExportOptions(targets=("ort",)))
    library = QwenLibrary(folder)
    expected = library.continued(library.prompt(QUESTION, 1), [picture(64, 64)], STEPS)
    result = vtp.load(tmp_path / "out").generate(
        picture(64, 64), QUESTION, keep=1.0, max_new_tokens=STEPS
    )
    assert list(result.tokens) == expected


def test_positions_whose_angles_hang_on_the_length_are_refused(
    llava: Callable[..., Path], tmp_path: Path
) -> None:
    folder = llava(text={"rope_parameters": {"rope_theta": 1e4, **ROPES["dynamic"]}})
    options = ExportOptions(context=2 * CONTEXT)
    with pytest.raises(ModelNotSupported, match=r"'dynamic' over 256 .*how long.*up to 128"):
        export_model(str(folder), tmp_path / "out", options)


def test_a_long_rope_is_taken_up_to_where_it_changes(
    llava: Callable[..., Path], tmp_path: Path
) -> None:
    rope = {"rope_theta": 1e4, **ROPES["longrope"], "original_max_position_embeddings": 96}
    folder, told = llava(text={"rope_parameters": rope}), Notes()
    pipeline = compared(folder, tmp_path / "out", ExportOptions(), told)
    assert pipeline.bundle.manifest.language.context == 96
    assert "may have 96 tokens, not the 128 of config.json" in told.told[0]


@pytest.mark.parametrize(
    ("decoder", "more"),
    [
        (MistralConfig, {}),
        (Qwen2Config, {"use_sliding_window": True, "max_window_layers": 1}),
    ],
)
@pytest.mark.parametrize(("window", "context"), [(64, 64), (128, 128), (4096, 128)])
def test_a_window_is_taken_up_to_its_length(
    decoder: Any,
    more: dict[str, Any],
    window: int,
    context: int,
    llava: Callable[..., Path],
    tmp_path: Path,
) -> None:
    folder, told = llava(decoder, {"sliding_window": window, **more}), Notes()
    pipeline = compared(folder, tmp_path / "out", ExportOptions(), told)
    assert pipeline.bundle.manifest.language.context == context
    assert len(told.told) == (context < CONTEXT)
    with pytest.raises(ContextTooLong):
        pipeline.generate(picture(64, 64), QUESTION, max_new_tokens=context)


def test_a_window_that_no_layer_has_limits_nothing(
    llava: Callable[..., Path], tmp_path: Path
) -> None:
    settings = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 70}
    pipeline = compared(llava(Qwen2Config, settings), tmp_path / "out", ExportOptions())
    assert pipeline.bundle.manifest.language.context == CONTEXT


@pytest.mark.parametrize("context", [40, 300])
def test_a_context_of_ones_own(context: int, llava: Callable[..., Path], tmp_path: Path) -> None:
    """The library does not stop at ``max_position_embeddings``, and nor need a bundle."""
    folder = llava()
    export_model(str(folder), tmp_path / "out", ExportOptions(context=context, targets=("ort",)))
    pipeline = vtp.load(tmp_path / "out")
    assert pipeline.bundle.manifest.language.context == context
    if context > CONTEXT:
        pictures = [picture(64, 64, seed=seed) for seed in range(9)]  # 9 * 16 tokens
        expected = VideoLlavaLibrary(folder).answer(pictures, QUESTION, STEPS)
        result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert result.prompt_tokens > CONTEXT
        assert list(result.tokens) == expected


@pytest.mark.parametrize("most", [None, 0, "many"])
def test_positions_that_are_no_number_are_refused(
    most: Any, llava: Callable[..., Path], tmp_path: Path, vtp: Any
) -> None:
    folder = llava()
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["max_position_embeddings"] = most
    (folder / "config.json").write_text(json.dumps(config))
    message = vtp("export", folder, "--out", tmp_path / "out").error()
    assert "max_position_embeddings" in message


# --- features of the tower -------------------------------------------------------------------


def test_cls_goes_to_the_decoder_where_everything_is_asked_for(
    llava: Callable[..., Path], tmp_path: Path
) -> None:
    folder = llava(vision_feature_select_strategy="full")
    pipeline = compared(folder, tmp_path / "out", ExportOptions())
    result = pipeline.generate(picture(64, 64), QUESTION, keep=1.0, max_new_tokens=1)
    assert result.image_tokens == 17
    # Where tokens are dropped, [CLS] goes first; the best of the patches are left.
    library = VideoLlavaLibrary(folder)
    pixels = library.pixels([picture(64, 64)])["pixel_values"]
    with torch.no_grad():
        tower = library.model.model.vision_tower(
            pixels, output_attentions=True, output_hidden_states=True
        )
        scores = tower.attentions[-2][0, :, 0, 1:].mean(dim=0).tolist()
        features = library.model.model.multi_modal_projector(tower.hidden_states[-2])[0]
    best = sorted(sorted(range(16), key=lambda token: (-scores[token], token))[:5])
    embeds = library.embedded(features[[1 + token for token in best]], QUESTION)
    result = pipeline.generate(picture(64, 64), QUESTION, keep=5, max_new_tokens=STEPS)
    assert result.kept[0].tolist() == [1 + token for token in best]
    assert list(result.tokens) == library.continue_from(embeds, STEPS)


@pytest.mark.parametrize("layers", [[-2, -3], [1, 4], [0, 2, -1]], ids=str)
@pytest.mark.parametrize("selects", ["default", "full"])
def test_features_of_several_layers_stand_side_by_side(
    layers: list[int], selects: str, llava: Callable[..., Path], tmp_path: Path
) -> None:
    folder = llava(vision_feature_layer=layers, vision_feature_select_strategy=selects)
    compared(folder, tmp_path / "out", ExportOptions())


# --- sampling --------------------------------------------------------------------------------


def test_nulls_of_a_generation_config_are_what_transformers_takes() -> None:
    nulls = {"do_sample": True, "temperature": None, "top_p": None, "top_k": None}
    found = generation_defaults({**nulls, "repetition_penalty": None}, 2, 1)
    assert (found.temperature, found.top_p, found.top_k) == (1.0, 1.0, 50)
    assert (found.repetition_penalty, found.eos) == (1.0, (2,))
    greedy = generation_defaults({"temperature": 0.2, "eos_token_id": None}, None, 1)
    assert (greedy.temperature, greedy.top_p, greedy.top_k, greedy.eos) == (0.0, 1.0, None, (1,))
    whole = generation_defaults({"do_sample": True, "top_k": 0, "eos_token_id": [3, 4]}, 2, 1)
    assert (whole.top_k, whole.eos) == (None, (3, 4))


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k", "repetition_penalty"])
@pytest.mark.parametrize("value", ["high", -1, [1], True])
def test_a_setting_that_is_no_number_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ModelNotSupported, match=name):
        generation_defaults({"do_sample": True, name: value}, 2, 2)


def test_settings_that_are_not_done_are_told(llava: Callable[..., Path], tmp_path: Path) -> None:
    assert ignored_settings({"num_beams": 1, "typical_p": 1.0, "bad_words_ids": None}) == []
    folder, told = llava(), Notes()
    asked = {"eos_token_id": 2, "num_beams": 3, "no_repeat_ngram_size": 2}
    (folder / "generation_config.json").write_text(json.dumps(asked))
    export_model(str(folder), tmp_path / "out", ExportOptions(targets=("ort",)), told)
    assert told.told == ["ignored in generation_config.json: num_beams=3, no_repeat_ngram_size=2"]


def test_a_penalty_of_the_model_holds_for_greedy_answers_and_all_turns(
    llava: Callable[..., Path], tmp_path: Path, vtp: Any
) -> None:
    folder = llava()
    settings = {"eos_token_id": 2, "repetition_penalty": 1.4, "do_sample": False}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    pipeline = compared(folder, tmp_path / "out", ExportOptions())
    assert pipeline.bundle.manifest.generation.repetition_penalty == 1.4
    library = VideoLlavaLibrary(folder)
    image, settings = picture(64, 64), {"keep": 1.0, "max_new_tokens": STEPS}
    plain = pipeline.generate(image, QUESTION, repetition_penalty=1.0, **settings)
    assert list(plain.tokens) != library.answer([image], QUESTION, STEPS)
    # In the second turn the whole conversation counts.
    chat = pipeline.chat()
    first = chat.ask(image, QUESTION, **settings)
    second = chat.ask(image, "and here?", **settings)
    ids = [*library.prompt(QUESTION, 1), *first.tokens]
    joined = "</s>" if first.finished == "length" else ""
    ids += library.tokenizer(
        f"{joined}USER: <image>\nand here? ASSISTANT:", add_special_tokens=False
    )["input_ids"]
    token = library.model.config.image_token_id
    ids = [one for given in ids for one in [given] * (16 if given == token else 1)]
    given = torch.tensor([ids])
    pixels = library.pixels([image, image])["pixel_values"]
    out = library.model.generate(
        input_ids=given,
        attention_mask=torch.ones_like(given),
        pixel_values=pixels,
        max_new_tokens=STEPS,
        do_sample=False,
    )
    assert list(second.tokens) == out[0, len(ids) :].tolist()
    path = tmp_path / "image.png"
    Image.fromarray(np.asarray(image)).save(path)
    asked = ("run", tmp_path / "out", "--image", path, "--prompt", QUESTION, "--format", "json")
    more = ("--keep", "1.0", "--max-new-tokens", str(STEPS), "--repetition-penalty", "1.0")
    told = vtp(*asked, *more, "--top-k", "3", "--temperature", "1e-6")
    assert json.loads(told.out)["tokens"] == list(plain.tokens)
    assert "top_k" in vtp(*asked, "--top-k", "-1").error()
