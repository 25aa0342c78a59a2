"""Weights that do not fit, are not all there, or have no room: found out before anything is
written, in one line."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

torch = pytest.importorskip("torch")

Tensors = dict[str, Any]


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where to export to; afterwards, nothing may have appeared there or beside it."""
    parent = tmp_path / "out"
    parent.mkdir()
    yield parent / "bundle"
    assert list(parent.iterdir()) == []


@pytest.fixture
def model(copy_of: Any, random_llava: Path) -> Path:
    """A model folder that a test may damage."""
    folder: Path = copy_of(random_llava)
    return folder


@pytest.fixture
def edited(model: Path) -> Callable[[Callable[[Tensors], Any]], None]:
    """Changes the tensors of ``model``."""

    def edit(change: Callable[[Tensors], Any]) -> None:
        tensors = load_file(model / "model.safetensors")
        change(tensors)
        save_file(tensors, model / "model.safetensors", {"format": "pt"})

    return edit


def test_missing_tensors_are_named_five_of_them(
    vtp: Any, out: Path, model: Path, edited: Any
) -> None:
    gone = [f"layers.{n}.mlp.{kind}_proj.weight" for n in (0, 1) for kind in ("up", "gate", "down")]
    edited(lambda tensors: [tensors.pop(f"language_model.model.{name}") for name in gone])
    message = vtp("export", model, "--target", "ort", "--out", out).error()
    assert "6 missing: " in message
    assert sum(name in message for name in gone) == 5
    assert "and 1 more" in message
    assert "tracing" not in message


def test_what_is_not_exported_may_be_missing(
    vtp: Any, tmp_path: Path, model: Path, edited: Any
) -> None:
    last = "vision_tower.encoder.layers.2."

    def change(tensors: Tensors) -> None:
        for name in [n for n in tensors if n.startswith(last) or "post_layernorm" in n]:
            del tensors[name]
        tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
        tensors["vision_tower.embeddings.position_ids"] = torch.arange(17)[None]

    edited(change)
    assert vtp("export", model, "--target", "ort", "--out", tmp_path / "b").status == 0


def test_tensors_that_the_model_does_not_have(
    vtp: Any, out: Path, model: Path, edited: Any
) -> None:
    def change(tensors: Tensors) -> None:
        tensors["language_model.model.layers.6.mlp.up_proj.weight"] = torch.ones(128, 64)
        tensors["language_model.model.layers.0.mlp.up_proj.lora_A.weight"] = torch.ones(4, 64)

    edited(change)
    message = vtp("export", model, "--target", "ort", "--out", out).error()
    assert "2 unknown to the model: " in message
    assert "layers.6.mlp.up_proj.weight" in message
    assert "lora_A" in message


def test_all_kinds_in_one_message(vtp: Any, out: Path, model: Path, edited: Any) -> None:
    def change(tensors: Tensors) -> None:
        del tensors["language_model.model.norm.weight"]
        tensors["a"] = torch.ones(1)
        tensors["multi_modal_projector.linear_1.bias"] = torch.ones(65)

    edited(change)
    message = vtp("export", model, "--target", "ort", "--out", out).error()
    assert "1 missing: language_model.norm.weight; 1 unknown to the model: a; " in message
    assert "multi_modal_projector.linear_1.bias is (65,), but config.json says (64,)" in message


@pytest.mark.parametrize("cut", [1, 10_000])
def test_a_shard_that_is_cut_off(vtp: Any, out: Path, model: Path, cut: int) -> None:
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    places = {name: f"model-0000{n % 3 + 1}-of-00003.safetensors" for n, name in enumerate(tensors)}
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, model / file, {"format": "pt"})
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    shard = model / "model-00002-of-00003.safetensors"
    whole = shard.stat().st_size
    with shard.open("rb+") as file:
        file.truncate(whole - cut)
    message = vtp("export", model, "--target", "ort", "--out", out).error()
    assert f"no complete {shard.name}" in message
    assert f"{whole:,}" in message
    assert f"{whole - cut:,}" in message


def test_numbers_of_a_type_that_weights_do_not_have(
    vtp: Any, out: Path, model: Path, edited: Any
) -> None:
    name = "language_model.model.norm.weight"
    edited(lambda tensors: tensors.update({name: tensors[name].to(torch.float8_e4m3fn)}))
    message = vtp("export", model, "--target", "ort", "--out", out).error()
    assert name in message
    assert "F8_E4M3" in message


def test_a_bundle_larger_than_the_disk(vtp: Any, out: Path, model: Path) -> None:
    """The shard is real, but sparse: 4 TB of zeros that take no room."""
    from vtp.samples.make_checkpoint import stored_shapes

    path = model / "config.json"
    config = json.loads(path.read_text())
    large = {"vocab_size": 2**24, "hidden_size": 2**16, "num_hidden_layers": 1}
    config["text_config"] |= large
    path.write_text(json.dumps(config))
    import transformers

    with torch.device("meta"):
        parsed = transformers.AutoConfig.from_pretrained(model)
        shapes = stored_shapes(transformers.LlavaForConditionalGeneration(parsed))
    header, end = {}, 0
    for name, shape in shapes.items():
        offsets = [end, end := end + 2 * math.prod(shape)]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": offsets}
    text = json.dumps(header).encode()
    with (model / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        try:
            file.truncate(8 + len(text) + end)
        except OSError:
            pytest.skip("this file system has no files of 4 TB")
    message = vtp("export", model, "--dtype", "float16", "--target", "ort", "--out", out).error()
    assert "the weights of the bundle need 4" in message
    assert "GB are free" in message
