"""Model folders as users have them: what lies beside the model, what is none, where it comes from.

Each case was reported of a tool of this kind, or tried on published layouts.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import vtp
from vtp.errors import MixedTypes, ModelFileMissing
from vtp.export import ExportOptions, export_model
from vtp.export.families.llava import Llava
from vtp.export.source.find import find_model
from vtp.runtime.bundle.bundle import Bundle

from ..hub_server import COMMIT, HubServer

Edit = Callable[[Path, Callable[[Any], Any]], None]
ONE = ExportOptions(targets=("ort",))
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1876478048\n"


@pytest.fixture
def model(copy_of: Callable[[Path], Path], random_llava: Path) -> Path:
    """A model folder that a test may change."""
    return copy_of(random_llava)


def refused(vtp_: Any, model: Path | str, tmp_path: Path) -> str:
    """The message of an export that must fail and leave nothing behind."""
    message = vtp_("export", model, "--out", tmp_path / "out").error()
    assert not (tmp_path / "out").exists()
    return str(message)


@pytest.fixture
def plain_of(made_once: Any, random_llava: Path) -> Callable[[str], Path]:
    """The bundle of the model as it was, in a type, made once."""

    def get(dtype: str) -> Path:
        options = ExportOptions(targets=("ort",), dtype=dtype)
        name = f"random-plain-{dtype}"
        return Path(made_once(name, lambda out: export_model(str(random_llava), out, options)))

    return get


@pytest.fixture
def plain(plain_of: Callable[[str], Path]) -> Path:
    """That in float32."""
    return plain_of("float32")


def answers(bundle: Path, scene: Path) -> list[int]:
    found = vtp.load(bundle).generate(scene, "what number is shown?", keep=1.0, max_new_tokens=8)
    return list(found.tokens)


# --- types -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("spelled", ["torch_dtype", "dtype"])
@pytest.mark.parametrize("parts", [["text_config"], ["vision_config"], ["text_config", None]])
def test_a_type_in_a_part_of_the_configuration_changes_nothing(
    model: Path,
    plain_of: Callable[[str], Path],
    edit_json: Edit,
    tmp_path: Path,
    dtype: str,
    spelled: str,
    parts: list[str | None],
) -> None:
    def change(config: Any) -> None:
        for part, named in zip(parts, ("bfloat16", "float16"), strict=False):
            (config if part is None else config[part])[spelled] = named

    edit_json(model / "config.json", change)
    options = ExportOptions(targets=("ort",), dtype=dtype)
    manifest = export_model(str(model), tmp_path / "out", options)
    assert manifest.golden.measured
    assert manifest.golden.cases == Bundle(plain_of(dtype)).manifest.golden.cases


def test_a_model_that_transformers_saved_in_float16(
    tiny_llava: Path, tiny_bundle: Path, tmp_path: Path, scene: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    folder = Path(shutil.copytree(tiny_llava, tmp_path / "again"))
    (folder / "model.safetensors").unlink()
    half = AutoModelForImageTextToText.from_pretrained(tiny_llava, dtype=torch.float16)
    half.save_pretrained(folder)
    assert "float16" in (folder / "config.json").read_text()
    export_model(str(folder), tmp_path / "out", ONE)
    assert answers(tmp_path / "out", scene) == answers(tiny_bundle, scene)


def test_weights_of_two_types_are_named_when_the_model_is_made(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Llava.make

    def mixed(self: Llava, config: Any) -> Any:
        made: Any = make(self, config)
        halved = torch.nn.Parameter(made.lm_head.weight.detach().half())
        made.lm_head.weight = halved
        return made

    monkeypatch.setattr(Llava, "make", mixed)
    with pytest.raises(MixedTypes, match=r"float32.*lm_head\.weight \(float16\)"):
        export_model(str(model), tmp_path / "out", ONE)


# --- which files are read --------------------------------------------------------------------


def test_files_beside_the_model_are_not_read(
    vtp: Any, model: Path, plain: Path, tmp_path: Path, scene: Path
) -> None:
    stray = {"layers.0.attention.wq.weight": np.zeros((4, 4), np.float32)}
    # Names that a model knows, with other values, would be worse than unknown ones.
    known = {key: value * 0 for key, value in load_file(model / "model.safetensors").items()}
    save_file({**stray, **known}, model / "consolidated.safetensors")
    save_file(
        {"base_model.model.lora_A.weight": np.zeros((2, 2), np.float32)},
        model / "adapter_model.safetensors",
    )
    (model / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    done = vtp("export", model, "--target", "ort", "--out", tmp_path / "out")
    assert done.status == 0
    assert "note: the adapter in the model folder is not applied" in done.err
    assert answers(tmp_path / "out", scene) == answers(plain, scene)


def test_one_file_goes_before_shards_as_in_transformers(
    model: Path, plain: Path, tmp_path: Path, scene: Path
) -> None:
    from transformers import AutoModelForImageTextToText

    tensors = load_file(model / "model.safetensors")
    shard = {key: value * 0 for key, value in tensors.items()}
    save_file(shard, model / "model-00001-of-00001.safetensors")
    index = {"weight_map": dict.fromkeys(shard, "model-00001-of-00001.safetensors")}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = AutoModelForImageTextToText.from_pretrained(model).requires_grad_(False)
    assert loaded.lm_head.weight.abs().sum().item() > 0
    export_model(str(model), tmp_path / "out", ONE)
    assert answers(tmp_path / "out", scene) == answers(plain, scene)


def test_a_variant_is_read_where_it_is_the_only_one(vtp: Any, model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "model.fp16.safetensors")
    export_model(str(model), tmp_path / "one", ONE)
    shutil.copy(model / "model.fp16.safetensors", model / "model.fp32.safetensors")
    message = refused(vtp, model, tmp_path)
    assert "keep only one of model.fp16.safetensors and model.fp32.safetensors" in message


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "consolidated.safetensors",
            "consolidated.safetensors exists, but transformers and vtp do not read it",
        ),
        ("model-00001-of-00002.safetensors", "the folder has shards, but not their index"),
    ],
)
def test_weights_under_another_name_are_refused_as_in_transformers(
    vtp: Any, model: Path, tmp_path: Path, name: str, said: str
) -> None:
    (model / "model.safetensors").rename(model / name)
    message = refused(vtp, model, tmp_path)
    assert "has no model.safetensors" in message
    assert said in message


@pytest.mark.parametrize(
    "name", ["model.safetensors", "tokenizer.json", "config.json", "preprocessor_config.json"]
)
def test_a_pointer_of_git_lfs_is_told(vtp: Any, model: Path, tmp_path: Path, name: str) -> None:
    (model / name).write_text(POINTER)
    message = refused(vtp, model, tmp_path)
    assert f"{name} in model folder" in message
    assert "git lfs pull" in message


def test_a_folder_in_the_hubs_cache_is_called_by_its_repository(
    random_llava: Path, tmp_path: Path
) -> None:
    """``snapshots/<hash>/`` with links into ``blobs/``, as the hub's client keeps it."""
    root = tmp_path / "hub" / "models--llava-hf--llava-1.5-7b-hf"
    snapshot = root / "snapshots" / COMMIT
    for folder in (snapshot, root / "blobs"):
        folder.mkdir(parents=True)
    for number, path in enumerate(sorted(random_llava.iterdir())):
        blob = root / "blobs" / f"{number:040x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    found = find_model(str(snapshot))
    assert (found.id, found.revision) == ("llava-hf/llava-1.5-7b-hf", COMMIT)
    manifest = export_model(str(snapshot), tmp_path / "out", ONE)
    assert manifest.model.id == "llava-hf/llava-1.5-7b-hf"
    assert manifest.model.revision == COMMIT


# --- what is no model in the form of transformers ---------------------------------------------

_SIGLIP = {"mm_vision_tower": "google/siglip-so400m-patch14-384", "mm_projector_type": "mlp2x_gelu"}
_MM = {"mm_vision_tower": "openai/clip-vit-large-patch14-336", "mm_projector_type": "mlp2x_gelu"}
ORIGINALS: dict[str, tuple[dict[str, Any], str]] = {
    "llava-v1.5-7b": (
        {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "hidden_size": 4096},
        "llava-hf/llava-1.5-7b-hf",
    ),
    "llava-v1.5-13b": (
        {"model_type": "llava_llama", "hidden_size": 5120, "image_aspect_ratio": "pad", **_MM},
        "llava-hf/llava-1.5-13b-hf",
    ),
    "llava without a class": (
        {"model_type": "llava", "hidden_size": 4096, **_MM},
        "llava-hf/llava-1.5-7b-hf",
    ),
    "llava-v1.6-vicuna-7b": (
        {
            "architectures": ["LlavaLlamaForCausalLM"],
            "model_type": "llava",
            "hidden_size": 4096,
            "image_aspect_ratio": "anyres",
            "vocab_size": 32000,
            **_MM,
        },
        "llava-hf/llava-v1.6-vicuna-7b-hf",
    ),
    "llava-v1.6-34b": (
        {"model_type": "llava", "hidden_size": 7168, "image_aspect_ratio": "anyres", **_MM},
        "llava-hf/llava-v1.6-34b-hf",
    ),
    "llava-v1.6-mistral-7b": (
        {"architectures": ["LlavaMistralForCausalLM"], "model_type": "llava_mistral", **_MM},
        "llava-hf/llava-v1.6-mistral-7b-hf",
    ),
    "llama3-llava-next-8b": (
        {
            "architectures": ["LlavaLlamaForCausalLM"],
            "model_type": "llava_llama",
            "hidden_size": 4096,
            "image_aspect_ratio": "anyres",
            "vocab_size": 128256,
            **_MM,
        },
        "llava-hf/llama3-llava-next-8b-hf",
    ),
    "llava-onevision-qwen2-7b-ov": (
        {
            "architectures": ["LlavaQwenForCausalLM"],
            "model_type": "llava",
            "hidden_size": 3584,
            "image_aspect_ratio": "anyres_max_9",
            **_SIGLIP,
        },
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    ),
    "llava-onevision-qwen2-0.5b-ov": (
        {
            "model_type": "llava_qwen",
            "hidden_size": 896,
            "image_aspect_ratio": "anyres_max_9",
            **_SIGLIP,
        },
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
    ),
    "llava-next-interleave-qwen-7b": (
        {
            "model_type": "llava_qwen",
            "hidden_size": 3584,
            "image_aspect_ratio": "anyres",
            **_SIGLIP,
        },
        "llava-hf/llava-interleave-qwen-7b-hf",
    ),
    "llava-next-72b": (
        {
            "architectures": ["LlavaQwenForCausalLM"],
            "hidden_size": 8192,
            "image_aspect_ratio": "anyres",
            **_MM,
        },
        "llava-hf/llava-next-72b-hf",
    ),
    "Video-LLaVA-7B": (
        {
            "architectures": ["LlavaLlamaForCausalLM"],
            "model_type": "llava",
            "hidden_size": 4096,
            "mm_image_tower": "LanguageBind/LanguageBind_Image",
            "mm_video_tower": "LanguageBind/LanguageBind_Video_merge",
        },
        "LanguageBind/Video-LLaVA-7B-hf",
    ),
    "InternVL3-2B": (
        {
            "architectures": ["InternVLChatModel"],
            "model_type": "internvl_chat",
            "auto_map": {"AutoConfig": "configuration_internvl_chat.InternVLChatConfig"},
            "llm_config": {"hidden_size": 1536},
        },
        "OpenGVLab/InternVL3-2B-hf",
    ),
}
"""What matters of config.json in repositories of the models' authors, and the converted one."""


@pytest.mark.parametrize("name", ORIGINALS)
def test_the_form_of_the_authors_is_named_with_the_converted_repository(
    vtp: Any, tmp_path: Path, name: str
) -> None:
    config, converted = ORIGINALS[name]
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    message = refused(vtp, folder, tmp_path)
    assert converted in message
    assert "in the format of its authors' own code" in message


def test_a_model_that_nobody_converted_is_called_by_its_family(vtp: Any, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    vila = {"model_type": "llava_llama", "architectures": ["LlavaLlamaModel"], "llm_cfg": {}}
    (folder / "config.json").write_text(json.dumps(vila | _MM))
    assert "model family 'llava_llama' is not supported" in refused(vtp, folder, tmp_path)


QUANTIZED: dict[str, tuple[Mapping[str, Any], str]] = {
    "gptq": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "GPTQ, 4 bits"),
    "awq": (
        {"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemm"}},
        "AWQ, 4 bits",
    ),
    "awq in the decoder's part": (
        {"text_config": {"model_type": "llama", "quantization_config": {"quant_method": "awq"}}},
        "AWQ",
    ),
    "bitsandbytes": (
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}},
        "bitsandbytes, 4 bits",
    ),
    "old bitsandbytes": ({"quantization_config": {"load_in_8bit": True}}, "bitsandbytes, 8 bits"),
    "fp8": (
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
        "FP8 with scales",
    ),
    "compressed-tensors": (
        {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}},
        "compressed-tensors",
    ),
    "mlx": ({"quantization": {"group_size": 64, "bits": 4}}, "quantization, 4 bits"),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_weights_that_are_quantized_already_are_told(
    vtp: Any, model: Path, edit_json: Edit, tmp_path: Path, name: str
) -> None:
    entries, said = QUANTIZED[name]
    named = {"_name_or_path": "llava-hf/llava-1.5-7b-hf"}
    edit_json(model / "config.json", lambda config: config.update({**entries, **named}))
    message = refused(vtp, model, tmp_path)
    assert f"({said})" in message
    assert "such as llava-hf/llava-1.5-7b-hf" in message
    assert "--weights int4" in message


def test_an_adapter_is_told_with_its_model(vtp: Any, tmp_path: Path) -> None:
    folder = tmp_path / "lora"
    folder.mkdir()
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Qwen2.5-VL-7B-Instruct"}
    (folder / "adapter_config.json").write_text(json.dumps(adapter))
    (folder / "adapter_model.safetensors").write_bytes(b"")
    message = refused(vtp, folder, tmp_path)
    assert "an adapter (LORA) of Qwen/Qwen2.5-VL-7B-Instruct" in message
    assert "merge_and_unload" in message


def test_a_tokenizer_without_the_image_token_is_told(
    vtp: Any, model: Path, edit_json: Edit, tmp_path: Path
) -> None:
    def change(tokenizer: Any) -> None:
        tokenizer["added_tokens"] = [
            t for t in tokenizer["added_tokens"] if "image" not in t["content"]
        ]
        image = tokenizer["model"]["vocab"].pop("<image>")
        tokenizer["model"]["vocab"]["picture-word"] = image

    edit_json(model / "tokenizer.json", change)
    (model / "tokenizer_config.json").unlink()
    message = refused(vtp, model, tmp_path)
    assert "has no image token" in message
    assert "according to config.json it has id 4" in message


# --- from the hub ----------------------------------------------------------------------------


@pytest.fixture
def export_from_hub(start_vtp: Any, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs ``vtp export`` with the hub's client turned to a server of ours."""

    def export(server: HubServer, *arguments: str | Path) -> tuple[int, str]:
        env = {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "cache")}
        process = start_vtp("export", *arguments, "--out", tmp_path / "out", env=env)
        _, err = process.communicate(timeout=300)
        return process.returncode, err

    return export


MISTAKES = {
    "a score": ["--stage", "1:0.5:atention"],
    "a check": ["--check", "layers:9"],
    "a keep": ["--keep", "2.5"],
    "a method": ["--method", "fastvlm"],
    "a layer": ["--stage", "9:0.5:attention"],
    "a score that the tower lacks": ["--method", "fastv", "--set", "layer=7"],
    "blocks": ["--weights", "int4", "--block", "256"],
    "a layout": ["--layout", "spatial"],
    "a context": ["--context", "0"],
    "a context that the sample does not fit in": ["--context", "10"],
}


def test_mistakes_are_told_before_weights_are_fetched(
    random_llava: Path, export_from_hub: Callable[..., tuple[int, str]]
) -> None:
    server = HubServer({"org/name": random_llava})
    with server.running():
        for mistake, arguments in MISTAKES.items():
            status, err = export_from_hub(server, "org/name", *arguments)
            assert (status, err.splitlines()[-1][:7]) == (1, "Error: "), mistake
    assert not [name for name in server.fetched if name.endswith(".safetensors")]


def test_weights_that_do_not_fit_are_told_by_the_index_alone(
    random_llava: Path,
    copy_of: Callable[[Path], Path],
    export_from_hub: Callable[..., tuple[int, str]],
) -> None:
    folder = copy_of(random_llava)
    keys = [key for key in load_file(folder / "model.safetensors") if "lm_head" not in key]
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(keys, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    server = HubServer({"org/name": folder})
    with server.running():
        status, err = export_from_hub(server, "org/name")
    assert status == 1
    assert "1 missing: lm_head.weight" in err.splitlines()[-1]


def test_only_the_weights_that_are_read_are_fetched(
    random_llava: Path,
    copy_of: Callable[[Path], Path],
    export_from_hub: Callable[..., tuple[int, str]],
    tmp_path: Path,
) -> None:
    folder = copy_of(random_llava)
    shutil.copy(folder / "model.safetensors", folder / "consolidated.safetensors")
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    server = HubServer({"org/name": folder})
    with server.running():
        status, err = export_from_hub(server, "org/name", "--target", "ort")
    assert status == 0, err
    assert [name for name in server.fetched if name.endswith((".safetensors", ".py"))] == [
        "model.safetensors"
    ]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert (manifest["model"]["id"], manifest["model"]["revision"]) == ("org/name", COMMIT)


def test_a_repository_of_pickled_weights_is_told(
    random_llava: Path,
    copy_of: Callable[[Path], Path],
    export_from_hub: Callable[..., tuple[int, str]],
) -> None:
    folder = copy_of(random_llava)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    server = HubServer({"org/name": folder})
    with server.running():
        status, err = export_from_hub(server, "org/name", "--target", "ort")
    assert status == 1
    assert "pytorch_model.bin" in err.splitlines()[-1]
    assert "pytorch_model.bin" not in server.fetched


def test_a_model_folder_is_missing_what_it_names(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelFileMissing, match=r"\*\.safetensors"):
        export_model(str(model), tmp_path / "out", ONE)
