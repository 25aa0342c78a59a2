"""Every published repository, in the layout in which it lies on the hub, small, of random weights:
it exports with default options, and answers as transformers does from the very same folder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import vtp
from vtp.errors import ModelNotSupported, TokenMissing
from vtp.export import ExportOptions, export_model
from vtp.export.source.presets import PRESETS
from vtp.samples.hub.table import REPOSITORIES
from vtp.samples.hub.write import stored_shapes, write_files

from .conftest import picture
from .library import InternVlLibrary, Library, OneVisionLibrary, VideoLlavaLibrary
from .qwen_library import QwenLibrary

STEPS = 12
QUESTION = "where is the red circle?"
KINDS: dict[str, type[Library]] = {
    # Its processor gives one tile for each image, as Video-LLaVA's does.
    "llava": VideoLlavaLibrary,
    "llava_next": Library,
    "video_llava": VideoLlavaLibrary,
    "llava_onevision": OneVisionLibrary,
    "internvl": InternVlLibrary,
    "qwen2_vl": QwenLibrary,
    "qwen2_5_vl": QwenLibrary,
}
ONE_A_FAMILY = {of.family: name for name, of in reversed(REPOSITORIES.items())}


def library_of(name: str, folder: Path) -> Library:
    return KINDS[REPOSITORIES[name].family](folder)


def answer(library: Library, pictures: list[Any], question: str = QUESTION) -> list[int]:
    """Greedy, by the library; so far as it goes by the model's own generation_config.json."""
    if isinstance(library, QwenLibrary):
        return library.continued(library.prompt(question, len(pictures)), pictures, STEPS)
    return library.answer(pictures, question, STEPS)


@pytest.fixture(scope="session")
def hub_bundle(
    made_once: Any, model_folder: Callable[[str], Path]
) -> Callable[[str], tuple[Path, Path]]:
    """Folder and bundle of a repository, exported with default options."""

    def get(name: str) -> tuple[Path, Path]:
        folder = model_folder(name)

        def export(out: Path) -> None:
            export_model(str(folder), out, ExportOptions())

        return folder, made_once(f"hub-{name.replace('/', '-')}", export)

    return get


def test_every_preset_has_its_repository() -> None:
    published = {p.source: p.size for p in PRESETS.values() if p.size is not None}
    assert published.keys() <= REPOSITORIES.keys()
    for name, size in published.items():
        assert (REPOSITORIES[name].family, REPOSITORIES[name].size) == size
    assert all(repository.read for repository in REPOSITORIES.values())


@pytest.mark.parametrize("name", REPOSITORIES)
def test_hub_layout_answers_as_transformers_does(
    name: str, hub_bundle: Callable[[str], tuple[Path, Path]]
) -> None:
    folder, bundle = hub_bundle(name)
    library = library_of(name, folder)
    pipelines = [vtp.load(bundle, target=target) for target in ("ort", "onnx")]
    for sizes in ([(64, 64)], [(200, 60)], [(64, 64), (120, 40)], []):
        pictures = [picture(*size, seed=number) for number, size in enumerate(sizes)]
        expected = answer(library, pictures)
        for pipeline in pipelines:
            settings = {"keep": 1.0, "max_new_tokens": STEPS}
            result = pipeline.generate(pictures, QUESTION, temperature=0, **settings)
            assert list(result.tokens) == expected
            # What the model samples from by default is a single token in all that sample.
            assert list(pipeline.generate(pictures, QUESTION, **settings).tokens) == expected
    few = pipelines[0].generate(picture(64, 64), QUESTION, keep=0.25, max_new_tokens=1)
    assert 0 < few.image_tokens < few.image_tokens_before


@pytest.mark.parametrize("family", ONE_A_FAMILY)
@pytest.mark.parametrize("precision", ["float16", "int4"])
def test_hub_layout_exports_in_few_bits(
    family: str, precision: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    few = {"weights": precision} if precision == "int4" else {"dtype": precision}
    folder = model_folder(ONE_A_FAMILY[family])
    # Compared with PyTorch at the end, on every target, or it would be an error.
    manifest = export_model(str(folder), tmp_path / "out", ExportOptions(targets=("ort",), **few))
    assert manifest.language.dtype == ("float32" if precision == "int4" else precision)
    result = vtp.load(tmp_path / "out").generate(picture(64, 64), QUESTION, max_new_tokens=4)
    assert len(result.tokens) >= 1


AGAIN = [
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    "llava-hf/llama3-llava-next-8b-hf",
]
"""Their templates write a finished answer otherwise than they ask for it."""


@pytest.mark.parametrize("name", AGAIN)
@pytest.mark.parametrize("method", [None, "fastv"])
def test_hub_layout_reads_an_answer_again_where_the_template_asks_for_it(
    name: str,
    method: str | None,
    hub_bundle: Callable[[str], tuple[Path, Path]],
    bundle_of: Callable[..., Path],
) -> None:
    folder, bundle = hub_bundle(name)
    if method is not None:  # a decoder of two stages, each with a cache of its own
        bundle = bundle_of(name, method, targets=("ort", "onnx"))
    library = library_of(name, folder)
    first = picture(64, 64)
    (features,) = library.features([first])
    turns: list[dict[str, Any]] = [said("user", QUESTION, images=1)]
    for target in ("ort", "onnx"):
        chat = vtp.load(bundle, target=target).chat()
        asked = chat.ask(first, QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(asked.tokens) == answer(library, [first])
        history = [*turns]
        for question in ("and the blue square?", "what else?"):
            history += [said("assistant", asked.text), said("user", question)]
            asked = chat.ask(question, keep=1.0, max_new_tokens=STEPS)
            expected = library.continue_from(rendered(library, history, features), STEPS)
            assert list(asked.tokens) == expected
    if method is not None:
        # Where tokens were dropped, a turn read again leaves the caches as one read at once.
        chat = vtp.load(bundle, target="ort").chat()
        chat.ask(first, QUESTION, keep=0.5, max_new_tokens=STEPS)
        before = [stage.length for stage in chat._conversation.cache.stages]
        chat.ask("what else?", keep=0.5, max_new_tokens=1)
        grown = [
            stage.length - length
            for stage, length in zip(chat._conversation.cache.stages, before, strict=True)
        ]
        assert before[0] > before[1]
        assert grown[0] == grown[1]


def said(role: str, text: str, images: int = 0) -> dict[str, Any]:
    content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
    return {"role": role, "content": content}


def rendered(
    library: Library, history: list[dict[str, Any]], features: torch.Tensor
) -> torch.Tensor:
    """Embeddings ``(1, tokens, width)`` of a conversation about one image, as the template and the
    tokenizer write it."""
    text = library.tokenizer.apply_chat_template(
        history, chat_template=library.template, add_generation_prompt=True, tokenize=False
    )
    table = library.model.get_input_embeddings()
    rows = [
        features if token == library.model.config.image_token_id else table(torch.tensor([token]))
        for token in library.tokenizer(text)["input_ids"]
    ]
    return torch.cat(rows)[None]


PUBLISHED = {
    "llava-hf/llava-1.5-7b-hf": (686, 14_126_854_144),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": (716, None),
    "OpenGVLab/InternVL3-1B-hf": (733, 1_876_386_048),
    "Qwen/Qwen2-VL-2B-Instruct": (729, 2 * 2_208_985_600),
    "Qwen/Qwen2.5-VL-7B-Instruct": (729, 16_584_333_312),
}
"""Tensors of a repository and bytes of their data, as its index or the size of its files tells."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_hub_layout_has_the_published_tensors(name: str, tmp_path: Path) -> None:
    """Whole dimensions, no weights: names and sizes add up to what lies on the hub."""
    tensors, size = PUBLISHED[name]
    write_files(REPOSITORIES[name], tmp_path, small=False)
    shapes = stored_shapes(REPOSITORIES[name], tmp_path)
    assert len(shapes) == tensors
    if size is not None:
        assert 2 * sum(map(math.prod, shapes.values())) == size


def test_hub_layout_of_onevision_fills_its_file(tmp_path: Path) -> None:
    """Header and data of the one file of the 0.5B have the published size to the byte."""
    name = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
    write_files(REPOSITORIES[name], tmp_path, small=False)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, shape in stored_shapes(REPOSITORIES[name], tmp_path).items():
        begin, end = end, end + 2 * math.prod(shape)
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    assert 8 + len(text) + -len(text) % 8 + end == 1_787_445_680


@pytest.mark.parametrize("kind", ["image", "video"])
def test_hub_layout_without_a_token_is_told(
    kind: str, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """The tokenizer files of the decoder alone, in the place of the model's."""
    name = "llava-hf/llava-onevision-qwen2-7b-ov-hf"
    folder = Path(shutil.copytree(model_folder(name), tmp_path / "model"))
    token = f"<{kind}>"
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [t for t in tokenizer["added_tokens"] if t["content"] != token]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    added = settings["added_tokens_decoder"]
    settings["added_tokens_decoder"] = {n: t for n, t in added.items() if t["content"] != token}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    # The library counts the tokens behind the missing one anew, so that another has its number.
    said = {"image": "does not write '<video>', the image token", "video": "has no video"}
    with pytest.raises((TokenMissing, ModelNotSupported), match=said[kind]):
        export_model(str(folder), tmp_path / "out", ExportOptions())


def test_hub_layout_with_tables_of_older_versions(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """transformers once stored what follows from the configuration; it is not read."""
    name = "llava-hf/llava-1.5-7b-hf"
    folder = Path(shutil.copytree(model_folder(name), tmp_path / "model"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    shard = folder / "model-00001-of-00003.safetensors"
    older = {
        "vision_tower.vision_model.embeddings.position_ids": np.arange(17)[None],
        **{
            f"language_model.model.layers.{n}.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)
            for n in range(3)
        },
    }
    save_file({**load_file(shard), **older}, shard, metadata={"format": "pt"})
    index["weight_map"] |= dict.fromkeys(older, shard.name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    options = ExportOptions(targets=("ort",))
    with_tables = export_model(str(folder), tmp_path / "with", options)
    without = export_model(str(model_folder(name)), tmp_path / "without", options)
    assert with_tables.golden.cases == without.golden.cases


@pytest.mark.parametrize("family", ONE_A_FAMILY)
def test_hub_layout_places_an_image_in_the_text_as_in_front(
    family: str, hub_bundle: Callable[[str], tuple[Path, Path]]
) -> None:
    name = ONE_A_FAMILY[family]
    folder, bundle = hub_bundle(name)
    pipeline, library = vtp.load(bundle), library_of(name, folder)
    layout, text = pipeline.bundle.manifest.prompt, pipeline.text

    def ids(question: str, images: int = 1) -> list[int]:
        return text.encode(layout.render_turn(question, images, first=True))

    written = [layout.image_token, layout.image_open, "{image}"]
    placed = [ids(f"look at {mark} what?") for mark in written]
    assert placed[0] == placed[1] == placed[2]
    around = layout.image_open.replace(layout.image_token, layout.image_text or layout.image_token)
    turn = layout.render_turn("look at {image} what?", 1, first=True)
    assert f"look at {around} what?" in turn
    content = [
        {"type": "text", "text": "look at "},
        {"type": "image"},
        {"type": "text", "text": " what?"},
    ]
    rendered = library.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}],
        chat_template=library.template,
        add_generation_prompt=True,
        tokenize=False,
    )
    if "look at <" in rendered:  # the template leaves images where they are
        token = layout.image_token
        expected = library.tokenizer(rendered.replace(token, token.join(library.around)))
        assert placed[0] == expected["input_ids"]
    else:
        assert family not in ("internvl", "qwen2_vl", "qwen2_5_vl")
    result = pipeline.generate(picture(64, 64), "look at {image} what?", keep=1.0, max_new_tokens=1)
    assert result.prompt_tokens == len(placed[0]) - 1 + result.image_tokens
