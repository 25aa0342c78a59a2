"""Every kind of bad input, through the command line: one ``Error:`` line, nothing left behind."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vtp import errors, load
from vtp.export import ExportOptions, export_model
from vtp.runtime.chat.pipeline import Pipeline

Edit = Callable[[Path, Callable[[Any], Any]], None]
Copy = Callable[[Path], Path]

GRAPHS = ("vision.ort.onnx", "language.0.ort.onnx", "vision.onnx", "language.0.onnx")
FILES = (*GRAPHS, "weights.safetensors", "tokenizer.json", "golden.png", "golden.safetensors")


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where to export to; afterwards, nothing may have appeared there or beside it."""
    parent = tmp_path / "out"
    parent.mkdir()
    yield parent / "bundle"
    assert list(parent.iterdir()) == []


@pytest.fixture
def model(copy_of: Copy, random_llava: Path) -> Path:
    """A model folder that a test may damage."""
    return copy_of(random_llava)


@pytest.fixture
def bundle(copy_of: Copy, random_bundle: Path) -> Path:
    """A bundle that a test may damage."""
    return copy_of(random_bundle)


@pytest.fixture(scope="module")
def pipeline(random_bundle: Path) -> Pipeline:
    """The intact bundle, loaded."""
    return load(random_bundle)


@pytest.fixture
def ask(vtp: Any, random_bundle: Path, scene: Path) -> Callable[..., str]:
    """Runs ``vtp run`` on the intact bundle, which must fail; returns the error's message."""

    def call(*arguments: str | Path, prompt: str = "what?", image: Path | None = scene) -> str:
        given = ["--image", image] if image else []
        outcome = vtp("run", random_bundle, "--prompt", prompt, *given, *arguments)
        assert outcome.out == ""
        return str(outcome.error())

    return call


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file of a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# --- which model -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["tinny", "llava 1.5", "./no/such/folder", "../x", "a/b/c"])
def test_a_model_that_is_nowhere(vtp: Any, out: Path, name: str) -> None:
    message = vtp("export", name, "--out", out).error()
    assert repr(name) in message
    assert "tiny, tiny-guide, llava15" in message
    assert "local folder" in message


@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_that_cannot_be_reached(
    start_vtp: Any, out: Path, tmp_path: Path, offline: bool
) -> None:
    env = {"HF_HOME": str(tmp_path / "hub")}
    # A port that nothing listens on, so that the test is the same with and without a network.
    env |= {"HF_HUB_OFFLINE": "1"} if offline else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    process = start_vtp("export", "org/name", "--out", out, env=env)
    stdout, err = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (1, "")
    lines = err.splitlines()
    assert [line.startswith("Error: ") for line in lines] == [False] * (len(lines) - 1) + [True]
    assert "'org/name' was not found (from the hub" in lines[-1]
    assert "the path of a local folder with config.json" in lines[-1]


def test_a_preset_of_the_hub_without_a_hub(
    vtp: Any, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = vtp("export", "llava15", "--out", out).error()
    assert "llava-hf/llava-1.5-7b-hf" in message
    assert "local folder" in message


def test_an_unknown_model_raises_model_not_found(out: Path) -> None:
    with pytest.raises(errors.ModelNotFound, match="tinny"):
        export_model("tinny", out, ExportOptions())
    with pytest.raises(FileNotFoundError):
        export_model("tinny", out, ExportOptions())


# --- what is in the model folder -------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "preprocessor_config.json", "model.safetensors"]
)
def test_a_model_folder_without_a_file(vtp: Any, out: Path, model: Path, name: str) -> None:
    (model / name).unlink()
    message = vtp("export", model, "--out", out).error()
    assert str(model) in message
    assert ("*.safetensors" if name == "model.safetensors" else name) in message


def test_a_model_folder_without_a_chat_template(vtp: Any, out: Path, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert "chat template" in vtp("export", model, "--out", out).error()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "\xff\xfe"])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_a_model_file_that_is_broken(
    vtp: Any, out: Path, model: Path, name: str, content: str
) -> None:
    (model / name).write_bytes(content.encode("latin-1"))
    assert name in vtp("export", model, "--out", out).error()


@pytest.mark.parametrize(
    "template", ["{% if %}", "{{ raise_exception('no') }}", "fixed", "{{ 1/0 }}"]
)
def test_a_chat_template_that_cannot_be_used(
    vtp: Any, out: Path, model: Path, template: str
) -> None:
    (model / "chat_template.jinja").write_text(template)
    assert "chat template" in vtp("export", model, "--out", out).error()


@pytest.mark.parametrize(
    "kind", ["qwen3_vl", "llava_next_video", "llama", "no_such_model", None, 7]
)
def test_an_unsupported_family_is_named_with_the_supported_ones(
    vtp: Any, out: Path, model: Path, edit_json: Edit, kind: Any
) -> None:
    edit_json(model / "config.json", lambda config: config.update(model_type=kind))
    message = vtp("export", model, "--out", out).error()
    assert str(kind) in message
    assert "supported: llava" in message


def test_an_unsupported_vision_tower_is_named(
    vtp: Any, out: Path, model: Path, edit_json: Edit
) -> None:
    def change(config: Any) -> None:
        config["vision_config"] = {"model_type": "dinov2"}

    edit_json(model / "config.json", change)
    message = vtp("export", model, "--out", out).error()
    assert "dinov2" in message
    assert "supported: clip_vision_model" in message


@pytest.mark.parametrize("decoder", ["gpt2", "gemma", "mixtral"])
def test_an_unsupported_decoder_is_named(
    vtp: Any, out: Path, model: Path, edit_json: Edit, decoder: str
) -> None:
    def change(config: Any) -> None:
        config["text_config"] = {"model_type": decoder}

    edit_json(model / "config.json", change)
    message = vtp("export", model, "--out", out).error()
    assert decoder in message
    assert "llama, mistral, qwen2" in message


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("vision_feature_layer", 99, "vision_feature_layer 99"),
        ("vision_feature_layer", [-2, -5], "vision_feature_layer"),
        ("vision_feature_layer", 0, "vision_feature_layer 0"),
        ("vision_feature_layer", [], "vision_feature_layer"),
        ("vision_feature_select_strategy", "half", "config.json"),
        ("image_token_index", 10**6, "image token"),
        ("vision_config", "large", "config.json"),
        ("text_config", 3, "config.json"),
    ],
)
def test_a_configuration_that_cannot_be_exported(
    vtp: Any, out: Path, model: Path, edit_json: Edit, key: str, value: Any, named: str
) -> None:
    edit_json(model / "config.json", lambda config: config.update({key: value}))
    assert named in vtp("export", model, "--out", out).error()


def test_a_preprocessor_for_another_image_size_than_the_tower(
    vtp: Any, out: Path, model: Path, edit_json: Edit
) -> None:
    def change(config: Any) -> None:
        config["crop_size"] = {"height": 40, "width": 40}

    edit_json(model / "preprocessor_config.json", change)
    message = vtp("export", model, "--out", out).error()
    assert "40 x 40" in message
    assert "32 x 32" in message


@pytest.mark.parametrize("eos", ["two", [[1]], 1.5, {}])
def test_an_end_token_that_is_no_id(
    vtp: Any, out: Path, model: Path, edit_json: Edit, eos: Any
) -> None:
    (model / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    assert "eos_token_id" in vtp("export", model, "--out", out).error()


def test_only_pickled_weights(vtp: Any, out: Path, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    message = vtp("export", model, "--out", out).error()
    assert "pytorch_model.bin" in message
    assert "convert them to safetensors" in message
    with pytest.raises(errors.UnsafeWeights):
        export_model(str(model), out, ExportOptions())


@pytest.mark.parametrize("damage", ["cut", "header", "empty"])
def test_weights_that_are_broken(vtp: Any, out: Path, model: Path, damage: str) -> None:
    path = model / "model.safetensors"
    data = path.read_bytes()
    changed = {"cut": data[: len(data) // 2], "header": b"\xff" * 64 + data[64:], "empty": b""}
    path.write_bytes(changed[damage])
    assert "model.safetensors" in vtp("export", model, "--out", out).error()


def test_weights_of_another_shape_than_the_configuration(
    vtp: Any, out: Path, model: Path, edit_json: Edit
) -> None:
    edit_json(
        model / "config.json", lambda config: config["vision_config"].update(intermediate_size=80)
    )
    message = vtp("export", model, "--out", out).error()
    assert "mlp.fc1" in message
    assert "config.json" in message
    assert "(64, 32)" in message
    assert "(80, 32)" in message


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/hostname", "gone.safetensors"])
def test_shards_that_are_missing_or_elsewhere(vtp: Any, out: Path, model: Path, shard: str) -> None:
    (model / "model.safetensors").rename(model.parent / "outside.safetensors")
    index = {"weight_map": {"language_model.lm_head.weight": shard}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    assert Path(shard).name in vtp("export", model, "--out", out).error()


@pytest.mark.parametrize("model_type", ["llava", "their_own_model"])
def test_code_in_a_model_folder_is_never_run(
    vtp: Any, out: Path, model: Path, edit_json: Edit, tmp_path: Path, model_type: str
) -> None:
    trap = tmp_path / "was_run"
    names = ("configuration_evil", "modeling_evil", "tokenization_evil", "processing_evil")
    for name in names:
        (model / f"{name}.py").write_text(f"open({str(trap)!r}, 'w').write('run')\n")
    remote = {
        "AutoConfig": "configuration_evil.Config",
        "AutoModelForImageTextToText": "modeling_evil.Model",
        "AutoTokenizer": ["tokenization_evil.Slow", "tokenization_evil.Fast"],
        "AutoProcessor": "processing_evil.Processor",
    }
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        edit_json(model / name, lambda config: config.update(auto_map=remote))
    edit_json(model / "config.json", lambda config: config.update(model_type=model_type))
    if model_type == "llava":
        # All files but the last are read before this is found out.
        (model / "model.safetensors").rename(model / "pytorch_model.bin")
    vtp("export", model, "--out", out).error()
    assert not trap.exists()
    assert not set(names) & set(sys.modules)


# --- method, keep, output --------------------------------------------------------------------


def test_an_unknown_method(vtp: Any, out: Path, random_llava: Path) -> None:
    message = vtp("export", random_llava, "--method", "slowervlm", "--out", out).error()
    assert "'slowervlm'" in message
    assert "fastervlm" in message
    with pytest.raises(LookupError):
        export_model(str(random_llava), out, ExportOptions(method="slowervlm"))


KEEPS = ["0", "0.0", "1.5", "-0.1", "-3", "nan", "inf", "17", "much", "", "1e400"]


@pytest.mark.parametrize("keep", KEEPS)
def test_a_keep_out_of_range_at_export(vtp: Any, out: Path, random_llava: Path, keep: str) -> None:
    message = vtp("export", random_llava, f"--keep={keep}", "--out", out).error()
    assert "out of range" in message
    assert "a ratio above 0 and up to 1.0" in message


@pytest.mark.parametrize("keep", KEEPS)
def test_a_keep_out_of_range_at_run(ask: Callable[..., str], keep: str) -> None:
    assert "out of range" in ask(f"--keep={keep}")


@pytest.mark.parametrize("keep", [0, 0.0, 1.5, -0.1, -3, float("nan"), 17, "0.5", True, None])
def test_a_keep_out_of_range_in_python(
    pipeline: Pipeline, random_llava: Path, scene: Path, out: Path, keep: Any
) -> None:
    if keep is not None:  # None is the default
        with pytest.raises(errors.KeepOutOfRange):
            pipeline.generate(scene, "what?", keep=keep)
        if keep != 17:  # only the model says that there are 16
            with pytest.raises(ValueError, match="out of range"):
                export_model("tinny", out, ExportOptions(keep=keep))


def test_a_keep_for_a_bundle_without_pruning(vtp: Any, out: Path, random_llava: Path) -> None:
    message = vtp("export", random_llava, "--method=none", "--keep=0.5", "--out", out).error()
    assert "0.5" in message


def test_an_output_that_exists(
    vtp: Any, random_bundle: Path, bundle: Path, random_llava: Path
) -> None:
    before = snapshot(bundle)
    assert "--force" in vtp("export", random_llava, "--out", bundle).error()
    assert snapshot(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("kind", ["folder", "file", "link", "dangling"])
def test_an_output_that_is_no_bundle_is_never_replaced(
    vtp: Any, tmp_path: Path, random_bundle: Path, random_llava: Path, kind: str, force: Any
) -> None:
    parent = tmp_path / "out"
    taken = parent / "taken"
    parent.mkdir()
    if kind == "folder":
        taken.mkdir()
        (taken / "letters.txt").write_text("dear")
    elif kind == "file":
        taken.write_text("dear")
    else:
        taken.symlink_to(random_bundle if kind == "link" else tmp_path / "nowhere")
    before = snapshot(parent)
    message = vtp("export", random_llava, "--out", taken, *force).error()
    assert "already exists" in message
    assert "--force does not replace it" in message
    assert snapshot(parent) == before
    assert list(parent.iterdir()) == [taken]


def test_an_output_below_a_file(vtp: Any, tmp_path: Path, random_llava: Path) -> None:
    (tmp_path / "file").write_text("dear")
    message = vtp("export", random_llava, "--out", tmp_path / "file" / "bundle").error()
    assert str(tmp_path / "file") in message


# --- usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("exprot", "tiny"),
        ("export", "tiny"),
        ("export", "--out", "x"),
        ("export", "tiny", "--out", "x", "--colour"),
        ("export", "tiny", "--out", "x", "--seed", "1"),
        ("export", "tiny", "--out", "x", "--method", "random", "--seed", "-1"),
        ("run", "x"),
        ("run", "x", "--prompt", "y", "--threads", "0"),
        ("run", "x", "--prompt", "y", "--max-pixels", "many"),
        ("run", "x", "--prompt", "y", "--format", "xml"),
        ("run", "x", "--prompt", "y", "--save-overlay", "o.png"),
        ("inspect",),
        ("verify", "x", "y"),
        ("list", "colours"),
        ("--nonsense",),
    ],
)
def test_wrong_usage_exits_with_2(
    vtp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = vtp(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert sum(line.startswith("Error: ") for line in outcome.err.splitlines()) == 1
    assert "Usage: vtp" in outcome.err
    assert list(tmp_path.iterdir()) == []


# --- prompts and settings --------------------------------------------------------------------


def test_a_prompt_without_its_image(ask: Callable[..., str]) -> None:
    message = ask(prompt="<image> what?", image=None)
    assert (
        "1 place(s) for images or videos ({image}), but 0 image(s) or video(s) were given"
        in message
    )


def test_a_prompt_with_too_many_images(ask: Callable[..., str], scene: Path) -> None:
    message = ask("--image", scene, prompt="<image> what?")
    assert (
        "1 place(s) for images or videos ({image}), but 2 image(s) or video(s) were given"
        in message
    )


def test_a_prompt_with_too_many_markers(ask: Callable[..., str]) -> None:
    message = ask(prompt="<image> and <image>?")
    assert (
        "2 place(s) for images or videos ({image}), but 1 image(s) or video(s) were given"
        in message
    )


@pytest.mark.parametrize("prompt", ["", "  \n", "<image>"])
def test_an_empty_prompt(ask: Callable[..., str], prompt: str) -> None:
    assert "the prompt is empty" in ask(prompt=prompt)


def test_prompts_are_refused_in_python(pipeline: Pipeline, scene: Path) -> None:
    with pytest.raises(errors.ImageCountMismatch):
        pipeline.generate(None, "<image> what?")
    with pytest.raises(errors.ImageCountMismatch):
        pipeline.generate([scene, scene], "<image> what?")
    with pytest.raises(errors.EmptyPrompt):
        pipeline.generate(scene, " ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--prompt", "how many " * 100),
        ("--max-new-tokens", "128"),
        ("--max-new-tokens", "1000000000000"),
        ("--keep", "1.0", "--max-new-tokens", "120"),
    ],
)
def test_more_tokens_than_the_context_holds(ask: Callable[..., str], arguments: Any) -> None:
    message = ask(*arguments)
    assert "the model's context holds 128" in message
    assert "lower keep or max_new_tokens" in message


def test_more_tokens_than_a_conversation_holds(pipeline: Pipeline, scene: Path) -> None:
    for capacity in (129, -1):
        with pytest.raises(errors.ContextTooLong, match="the model's context holds 128"):
            pipeline.chat(capacity)
    chat = pipeline.chat(40)
    chat.ask(scene, "what?", max_new_tokens=8)
    with pytest.raises(errors.ContextTooLong, match="this conversation's cache holds 40"):
        chat.ask("what is in the picture? " * 5, max_new_tokens=8)
    # The refused turn has not been read: a shorter one still goes.
    assert chat.ask("what?", max_new_tokens=2).tokens


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-new-tokens", "0"),
        ("--max-new-tokens", "-1"),
        ("--temperature", "-1"),
        ("--temperature", "nan"),
        ("--top-p", "0"),
        ("--top-p", "1.1"),
        ("--seed", "-1"),
    ],
)
def test_a_setting_out_of_range(ask: Callable[..., str], option: str, value: str) -> None:
    message = ask(f"{option}={value}")
    assert option.removeprefix("--").replace("-", "_") in message
    assert "is not accepted: give" in message


# --- images ----------------------------------------------------------------------------------


def png_of_size(width: int, height: int) -> bytes:
    """A PNG file that says it is this large, and has hardly any data."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", b"x"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


BAD_IMAGES: dict[str, tuple[bytes, str]] = {
    "notes.txt": (b"dear diary", "cannot be read as an image"),
    "empty.png": (b"", "it is empty"),
    "paper.pdf": (b"%PDF-1.7\n", "of type PDF, which is not allowed; allowed: JPEG"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "of type SVG"),
    "head.png": (png_of_size(32, 32), "cannot be"),
    "bomb.png": (png_of_size(100_000, 100_000), "10,000,000,000 pixels, more than the limit"),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_file_that_is_no_usable_image(ask: Callable[..., str], tmp_path: Path, name: str) -> None:
    content, problem = BAD_IMAGES[name]
    path = tmp_path / name
    path.write_bytes(content)
    message = ask(image=path)
    assert str(path) in message
    assert problem in message


def test_an_image_that_is_cut_off(ask: Callable[..., str], tmp_path: Path, scene: Path) -> None:
    path = tmp_path / "cut.png"
    path.write_bytes(scene.read_bytes()[:500])
    assert str(path) in ask(image=path)


def test_an_image_that_is_missing_or_a_folder(ask: Callable[..., str], tmp_path: Path) -> None:
    assert "there is no such file" in ask(image=tmp_path / "none.png")
    assert "it is a folder" in ask(image=tmp_path)


def test_an_image_larger_than_max_pixels(ask: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (20, 30)).save(path)
    message = ask("--max-pixels", "599", image=path)
    assert "20 x 30 = 600 pixels" in message
    assert "--max-pixels" in message


def test_images_are_refused_in_python(pipeline: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(errors.ImageTypeNotAllowed):
        pipeline.generate(b"%PDF-1.7", "what?")
    with pytest.raises(errors.ImageTooLarge):
        pipeline.generate(png_of_size(10**5, 10**5), "what?")
    with pytest.raises(errors.ImageUnreadable):
        pipeline.generate(np.zeros((4, 4), np.float64), "what?")
    with pytest.raises(errors.ImageUnreadable):
        pipeline.generate(tmp_path / "none.png", "what?")


def test_an_overlay_that_cannot_be_written(ask: Callable[..., str], tmp_path: Path) -> None:
    target = tmp_path / "no" / "folder" / "kept.png"
    # Found out before the question is answered: ask() sees to it that stdout is empty.
    assert str(target.parent) in ask("--save-overlay", target)
    assert "kept.xyz" in ask("--save-overlay", tmp_path / "kept.xyz")
    assert list(tmp_path.iterdir()) == []


# --- engines ---------------------------------------------------------------------------------


def test_an_unknown_engine(ask: Callable[..., str], random_bundle: Path) -> None:
    message = ask("--engine", "quantum")
    assert "engine 'quantum' is unknown; known: auto, tensorrt, tensorrt-rtx, cuda, cpu" in message
    with pytest.raises(errors.EngineUnknown):
        load(random_bundle, "quantum")


def test_a_target_that_the_bundle_does_not_carry(random_bundle: Path) -> None:
    with pytest.raises(errors.BundleError, match="no graph for target 'abacus'"):
        load(random_bundle, target="abacus")


# --- bundles ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["inspect", "verify", "run"])
@pytest.mark.parametrize("kind", ["missing", "file", "empty folder"])
def test_a_path_without_a_bundle(vtp: Any, tmp_path: Path, command: str, kind: str) -> None:
    path = tmp_path / "bundle"
    if kind == "file":
        path.write_text("dear")
    elif kind == "empty folder":
        path.mkdir()
    arguments = ("--prompt", "what?") if command == "run" else ()
    message = vtp(command, path, *arguments).error()
    assert str(path) in message
    assert "vtp export MODEL --out DIR" in message


def edited(path: Path) -> None:
    """Change one bit in the middle: the size stays."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncated(path: Path) -> None:
    """Take away the last byte."""
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [edited, truncated, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_bundle_file_is_named(
    vtp: Any, bundle: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(bundle / name)
    problem = {edited: "sha256", truncated: "bytes", Path.unlink: "is missing"}[damage]
    commands: list[tuple[str | Path, ...]] = [("verify", bundle), ("inspect", bundle)]
    if name not in ("vision.onnx", "language.0.onnx"):  # graphs that run does not read
        commands.append(("run", bundle, "--prompt", "what?"))
        with pytest.raises(errors.BundleCorrupted, match=name):
            load(bundle)
    for command in commands:
        message = vtp(*command).error()
        assert repr(name) in message
        assert problem in message


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"schema": 4}', '{"schema": "1"}', "[" * 100_000, "\xff"]
)
def test_a_broken_manifest(vtp: Any, bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_bytes(text.encode("latin-1"))
    for command in ("inspect", "verify"):
        assert "manifest.json is invalid" in vtp(command, bundle).error()


def test_a_manifest_of_absurd_size(vtp: Any, bundle: Path) -> None:
    with (bundle / "manifest.json").open("ab") as file:
        file.truncate(17 * 2**20)
    assert "larger than" in vtp("inspect", bundle).error()


def test_a_manifest_of_a_newer_schema(vtp: Any, bundle: Path, edit_json: Edit) -> None:
    edit_json(bundle / "manifest.json", lambda manifest: manifest.update(schema=99, new_field=1))
    message = vtp("inspect", bundle).error()
    assert "schema version 99" in message
    assert "pip install -U" in message


def test_a_manifest_that_does_not_list_what_is_read(
    vtp: Any, bundle: Path, edit_json: Edit
) -> None:
    for name in ("tokenizer.json", "golden.png", "golden.safetensors"):
        copy = bundle.parent / name
        shutil.copytree(bundle, copy)

        def change(manifest: Any, name: str = name) -> None:
            manifest["files"] = [row for row in manifest["files"] if row["file"] != name]

        edit_json(copy / "manifest.json", change)
        assert repr(name) in vtp("inspect", copy).error()


@pytest.mark.parametrize("name", ["/etc/hostname", "../weights.safetensors", "a/../../b", "", "."])
@pytest.mark.parametrize("where", ["weights", "graph", "file"])
def test_a_manifest_that_names_a_file_outside(
    vtp: Any, bundle: Path, edit_json: Edit, where: str, name: str
) -> None:
    def change(manifest: Any) -> None:
        rows = {"weights": manifest["weights"]}
        rows |= {"graph": manifest["graphs"][0], "file": manifest["files"][0]}
        rows[where]["file"] = name

    shutil.copy(bundle / "weights.safetensors", bundle.parent / "weights.safetensors")
    edit_json(bundle / "manifest.json", change)
    message = vtp("inspect", bundle).error()
    if name != ".":  # a folder inside the bundle: merely no file
        assert "every file of a bundle must be inside its folder" in message


@pytest.mark.parametrize("name", ["weights.safetensors", "vision.ort.onnx", "tokenizer.json"])
def test_a_file_that_is_a_link_out_of_the_bundle(vtp: Any, bundle: Path, name: str) -> None:
    (bundle / name).rename(bundle.parent / name)
    (bundle / name).symlink_to(bundle.parent / name)
    message = vtp("run", bundle, "--prompt", "what?").error()
    assert repr(name) in message
    assert "is a link that leads out of the bundle" in message


@pytest.mark.parametrize(
    "location",
    [
        "/etc/hostname",
        "../weights.safetensors",
        "tokenizer.json",
        "link.safetensors",
        "./weights.safetensors",
    ],
)
@pytest.mark.parametrize("graph", ["vision.ort.onnx", "language.0.ort.onnx"])
def test_a_graph_that_takes_weights_from_elsewhere(
    vtp: Any, bundle: Path, edit_json: Edit, graph: str, location: str
) -> None:
    import onnx

    shutil.copy(bundle / "weights.safetensors", bundle.parent / "weights.safetensors")
    (bundle / "link.safetensors").symlink_to(bundle.parent / "weights.safetensors")
    path = bundle / graph
    proto = onnx.load(path, load_external_data=False)
    pointers = [entry for tensor in proto.graph.initializer for entry in tensor.external_data]
    pointer = next(entry for entry in reversed(pointers) if entry.key == "location")
    assert pointer.value == "weights.safetensors"
    pointer.value = location
    onnx.save(proto, path)
    data = path.read_bytes()

    def change(manifest: Any) -> None:
        record = next(record for record in manifest["graphs"] if record["file"] == graph)
        record.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

    edit_json(bundle / "manifest.json", change)
    for command in (("run", bundle, "--prompt", "what?"), ("verify", bundle), ("inspect", bundle)):
        message = vtp(*command).error()
        assert repr(location) in message
        assert "is not the bundle's weight file" in message


def test_the_whole_way_through_a_process(
    vtp_process: Any, bundle: Path, scene: Path, out: Path
) -> None:
    """The same from outside: status, streams, no traceback."""
    assert "not found" in vtp_process("export", "tinny", "--out", out).error()
    assert "out of range" in vtp_process("export", "tiny", "--keep=nan", "--out", out).error()
    edited(bundle / "weights.safetensors")
    outcome = vtp_process("run", bundle, "--image", scene, "--prompt", "what?")
    assert "sha256" in outcome.error()
    assert outcome.out == ""
    outcome = vtp_process("run", bundle)
    assert (outcome.status, outcome.out) == (2, "")
