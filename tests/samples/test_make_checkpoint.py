"""Random checkpoints: transformers takes them as its own, at every size, and nothing is left."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from vtp.export.plan.model_folder import ModelFolder  # noqa: E402
from vtp.runtime.bundle.prompt import Pieces  # noqa: E402
from vtp.samples.checkpoints.families import FAMILIES  # noqa: E402
from vtp.samples.checkpoints.sizes import SIZES  # noqa: E402
from vtp.samples.make_checkpoint import (  # noqa: E402
    empty_model,
    main,
    make_checkpoint,
    split,
    stored_shapes,
)

# As the pages of the published models say.
PARAMETERS = {
    ("llava", "7b"): 7.063e9,
    ("llava_next", "mistral-7b"): 7.567e9,
    ("llava_onevision", "0.5b"): 0.894e9,
    ("llava_onevision", "7b"): 8.030e9,
    ("internvl", "1b"): 0.938e9,
    ("qwen2_vl", "2b"): 2.209e9,
    ("qwen2_vl", "7b"): 8.291e9,
    ("qwen2_5_vl", "3b"): 3.755e9,
    ("qwen2_5_vl", "7b"): 8.292e9,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_loads_every_tensor(family: str, tmp_path: Path) -> None:
    folder = tmp_path / family
    make_checkpoint(family, "tiny", folder, "float32", shards=3)
    model_class: Any = getattr(transformers, FAMILIES[family].model)
    model, loading = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    assert all(torch.isfinite(tensor).all() for tensor in model.parameters())
    again = tmp_path / "again"
    model.save_pretrained(again)
    with safe_open(again / "model.safetensors", "np") as file:
        saved = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert set(saved) == set(index["weight_map"])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tokenizer_knows_every_row_and_the_image(family: str, tmp_path: Path) -> None:
    folder = tmp_path / family
    make_checkpoint(family, "tiny", folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    assert len(tokenizer) == config.text_config.vocab_size
    template = (folder / "chat_template.jinja").read_text()
    turn = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what ?"}]}]
    ids = tokenizer.apply_chat_template(turn, chat_template=template)["input_ids"]
    assert ids.count(config.image_token_id) == 1
    assert max(ids) < config.text_config.vocab_size


@pytest.mark.parametrize("family", FAMILIES)
def test_vtp_export_reads_the_folder(family: str, tmp_path: Path) -> None:
    folder = tmp_path / family
    make_checkpoint(family, "tiny", folder)
    opened = ModelFolder(folder)
    assert opened.family.name == family
    takes_videos = family not in ("llava", "llava_next")
    assert (opened.prompt.video is not None) == takes_videos
    kinds = ["image", "video"] if takes_videos else ["image"]
    turn = opened.prompt.render_turn("what?", kinds, True, Pieces(frames=(2,)))
    image = opened.prompt.image_token
    assert image in turn
    assert turn.count(image) == (1 + 2 if family == "internvl" else 1), "each frame is named"


@pytest.mark.parametrize(("family", "size"), PARAMETERS)
def test_sizes_are_the_published_ones(family: str, size: str) -> None:
    model = empty_model(FAMILIES[family], SIZES[family][size], "float16")
    count = sum(map(math.prod, stored_shapes(model).values()))
    assert count == pytest.approx(PARAMETERS[family, size], rel=1e-3)


def test_rows_of_a_matrix_differ_and_spread_as_initialised(tmp_path: Path) -> None:
    make_checkpoint("llava", "tiny", tmp_path / "m", "float16")
    with safe_open(tmp_path / "m" / "model.safetensors", "np") as file:
        table = file.get_tensor("language_model.model.embed_tokens.weight").astype(np.float32)
        norm = file.get_tensor("language_model.model.norm.weight").astype(np.float32)
        other = file.get_tensor("language_model.model.layers.0.mlp.up_proj.weight")
    assert len(np.unique(table, axis=0)) == len(table)
    assert table.std() == pytest.approx(0.02, rel=0.1)
    assert norm.mean() == pytest.approx(1, abs=0.1)
    assert not np.array_equal(table[: len(other)], other[: len(table)].astype(np.float32))


@pytest.mark.parametrize("shards", [1, 2, 7, 50])
def test_shards_are_even_and_whole(shards: int) -> None:
    shapes = {f"t{n:02}": (n % 5 + 1, 10) for n in range(50)}
    parts = split(shapes, shards)
    assert all(parts)
    assert [name for part in parts for name in part] == list(shapes)


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").touch()
    assert main(["llava", "--out", str(full)]) == 1
    assert main(["llava", "--out", str(tmp_path / "x"), "--shards", "1000"]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert [line.split(":")[0] for line in errors] == ["Error"] * len(errors)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["full"]


def test_interrupted_it_leaves_nothing(tmp_path: Path, start_python: Any) -> None:
    command = ["-m", "vtp.samples.make_checkpoint", "llava", "--size", "1.1b"]
    running = start_python(*command, "--out", tmp_path / "m")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".m.*/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 130
    assert list(tmp_path.iterdir()) == []
