"""A model that is checked on its first layers: what is compared, and what is caught."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from PIL import Image
from transformers import AutoConfig, LlavaForConditionalGeneration

from vtp.errors import OptionInvalid, ParityFailed, VerifyFailed, WeightsNotCopied
from vtp.export import ExportOptions, export_model, exporter
from vtp.export.check import depth as check_depth
from vtp.export.check import streamed_model
from vtp.export.check.depth import checked_layers
from vtp.export.families import make_family
from vtp.export.source.checkpoint import Checkpoint
from vtp.export.weights import weight_file as weights
from vtp.runtime.bundle.bundle import Bundle
from vtp.runtime.files.tensorfile import TensorFile
from vtp.runtime.model.tokenizer import Text
from vtp.runtime.verify.verify import verify_bundle

from .test_verify import with_scaled_weight

TARGETS = ("ort", "onnx", "trt10")
TWO = ExportOptions(check="layers:2", keep=0.25, targets=TARGETS)


@pytest.fixture(scope="module")
def checked(llava: Callable[[str], Path], made_once: Any) -> Path:
    """A bundle of six layers, checked on two."""
    return Path(made_once("deep-two", lambda out: export_model(str(llava("deep")), out, TWO)))


def test_the_hidden_state_is_that_of_transformers(
    llava: Callable[[str], Path], checked: Path
) -> None:
    bundle = Bundle(checked)
    manifest, golden = bundle.manifest, bundle.manifest.golden
    tensors = TensorFile(checked / golden.tensors)
    model = LlavaForConditionalGeneration.from_pretrained(llava("deep")).eval()
    turn = manifest.prompt.render_turn(golden.prompt, 1, True)
    ids = Text(checked / "tokenizer.json").encode(turn)
    with Image.open(checked / golden.image) as image:
        pixels = torch.from_numpy(manifest.preprocessing(image).pixels)
    table = model.get_input_embeddings()
    for number, case in enumerate(golden.cases):
        kept = torch.from_numpy(np.array(tensors.tensor(f"{number}.kept")))[0]
        with torch.no_grad():
            features = model.get_image_features(pixel_values=pixels).pooler_output[0][kept]
            place = ids.index(manifest.prompt.image_token_id)
            before, after = torch.tensor(ids[:place]), torch.tensor(ids[place + 1 :])
            fed = torch.tensor(case.tokens[:-1])
            parts = (table(before), features, table(after), table(fed))
            hidden = model.model.language_model(
                inputs_embeds=torch.cat(parts)[None], output_hidden_states=True
            ).hidden_states[2][0]
        want = hidden[-len(case.tokens) :].numpy()
        got = np.asarray(tensors.tensor(f"{number}.logits"))
        np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("target", TARGETS)
def test_verify_replays_it_on_every_target(checked: Path, target: str) -> None:
    _, deviations = verify_bundle(Bundle(checked), "cpu", choice=target)
    assert {(d.graph, d.output.partition("[")[0]) for d in deviations} == {
        ("vision", "scores"),
        ("vision", "image_embeds"),
        ("check.0", "logits"),
    }
    assert {d.keep for d in deviations} == {(1.0,), (0.25,)}


def test_the_checked_graph_reads_the_weights_of_the_whole_one(checked: Path) -> None:
    def places(name: str) -> Mapping[str, tuple[Any, Any]]:
        values = ir.load(checked / name).graph.initializers
        tensors = {key: value.const_value for key, value in values.items()}
        return {
            key: (tensor.offset, tensor.length)
            for key, tensor in tensors.items()
            if isinstance(tensor, ir.ExternalTensor)
        }

    for target in (".ort", "", ".trt10"):
        few, whole = places(f"check.0{target}.onnx"), places(f"language.0{target}.onnx")
        assert {key: whole[key] for key in few} == few
        layers = {key.split(".")[1] for key in few if key.startswith("layers.")}
        assert layers == {"0", "1"}


def test_commands_say_how_much_was_checked(vtp: Any, checked: Path) -> None:
    said = "vision, first 2 of 6 language layers"
    assert said in " ".join(vtp("inspect", checked).out.split())
    assert said in " ".join(vtp("verify", checked, "--engine", "cpu").out.split())


@pytest.mark.parametrize(
    ("tensor", "graph"),
    [
        ("language_model.layers.1.mlp.up_proj.weight.transposed", "check.0"),
        ("multi_modal_projector.linear_2.weight.transposed", "vision"),
    ],
)
def test_a_wrong_weight_in_what_is_checked(
    checked: Path, tmp_path: Path, tensor: str, graph: str
) -> None:
    broken = with_scaled_weight(checked, tmp_path / "broken", tensor)
    with pytest.raises(VerifyFailed, match=rf"graph '{graph} \(ort\)'"):
        verify_bundle(Bundle(broken), "cpu", choice="ort")


def test_a_graph_that_reads_another_layers_weight(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = weights.WeightFile.place_initializers

    def swapped(self: Any, model: ir.Model, names: Mapping[str, str]) -> None:
        names = {
            key: name.replace("layers.1.mlp.up", "layers.2.mlp.up") for key, name in names.items()
        }
        right(self, model, names)

    monkeypatch.setattr(weights.WeightFile, "place_initializers", swapped)
    with pytest.raises(ParityFailed, match=r"check\.0"):
        export_model(str(llava("deep")), tmp_path / "out", replace(TWO, targets=("ort",)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["another tensor", "not transposed", "cut"])
def test_a_wrong_tensor_in_a_layer_that_is_not_run(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    right = weights.copy_tensor

    def wrong(place: Any, dtype: str, transposed: bool, sink: Any) -> None:
        if "language_model.model.layers.4.self_attn.q_proj" not in place.key:
            right(place, dtype, transposed, sink)
        elif fault == "another tensor":
            right(replace(place, offset=place.offset + place.nbytes), dtype, transposed, sink)
        elif fault == "not transposed":
            right(place, dtype, False, sink)
        else:
            half = replace(place, shape=(place.shape[0] // 2, *place.shape[1:]))
            right(replace(half, nbytes=place.nbytes // 2), dtype, False, sink)
            sink.put(bytes(place.nbytes // 2))

    monkeypatch.setattr(weights, "copy_tensor", wrong)
    with pytest.raises(WeightsNotCopied, match=r"layers\.4\.self_attn\.q_proj"):
        export_model(str(llava("deep")), tmp_path / "out", replace(TWO, targets=("ort",)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("method", "layers", "dtype"),
    [
        ("fastv", 1, "float32"),
        ("fastv", 2, "float32"),  # the whole first stage
        ("fastervlm+pyramiddrop", 1, "float16"),
        ("guide", 3, "float32"),
        ("none", 5, "float16"),
    ],
)
def test_every_kind_of_first_stage_can_be_cut(
    llava: Callable[[str], Path], tmp_path: Path, method: str, layers: int, dtype: str
) -> None:
    check = f"layers:{layers}"
    targets = ("ort", "trt10")
    options = ExportOptions(method=method, check=check, dtype=dtype, targets=targets)
    manifest = export_model(str(llava("deep")), tmp_path / "out", options)
    assert manifest.golden.layers == layers
    compared = {(d.graph, d.target) for d in manifest.golden.measured}
    assert {("check.0", target) for target in targets} < compared


def test_large_weights_are_read_when_they_are_used(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: Path
) -> None:
    monkeypatch.setattr(streamed_model, "_LARGE", 100)
    export_model(str(llava("deep")), tmp_path / "out", replace(TWO, targets=("ort",)))
    kept, streamed = ((f / "golden.safetensors").read_bytes() for f in (checked, tmp_path / "out"))
    assert kept == streamed
    config, family = AutoConfig.from_pretrained(llava("deep")), make_family("llava")
    checkpoint = Checkpoint(llava("deep"), family.canonical_name)
    model = streamed_model.first_layers(family, config, checkpoint, 2)
    with torch.no_grad():
        model(input_ids=torch.ones(1, 3, dtype=torch.int64))
    assert not any(p.numel() > 200 for p in model.parameters() if p.device.type == "cpu")


def test_auto_follows_the_memory(checked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Bundle(checked).manifest.plan
    for free, want in ((10**12, None), (8 * 10**9, 1), (None, None)):
        monkeypatch.setattr(check_depth, "available_memory", lambda free=free: free)
        assert checked_layers("auto", plan, 10**9) == want
        assert checked_layers("full", plan, 10**9) is None
        assert checked_layers("layers:3", plan, 10**9) == 3


@pytest.mark.parametrize("given", ["half", "layers", "layers:0", "layers:6", "layers:-1", ""])
def test_a_check_that_is_none(
    vtp: Any, llava: Callable[[str], Path], tmp_path: Path, given: str
) -> None:
    message = vtp("export", llava("deep"), "--check", given, "--out", tmp_path / "x").error()
    assert repr(given) in message
    assert "layers:N" in message
    if given == "layers:6":
        assert "N in 1..5" in message
    assert list(tmp_path.iterdir()) == []


def test_layers_after_a_drop_are_not_checked_alone(checked: Path) -> None:
    plan = Bundle(checked).manifest.plan
    drop = replace(plan.drops[0], layer=2)
    with pytest.raises(OptionInvalid, match=r"1\.\.2"):
        checked_layers("layers:3", replace(plan, drops=(drop,)), 1)


def test_a_manifest_that_tells_of_more_layers_than_there_are(checked: Path) -> None:
    text = (checked / "manifest.json").read_text()
    data = json.loads(text)
    data["golden"]["layers"] = 7
    with pytest.raises(ValueError, match=r"golden\.layers"):
        type(Bundle(checked).manifest).from_json(json.dumps(data))


def test_no_second_copy_of_the_weights_stays(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model that PyTorch ran is gone before ONNX Runtime loads the graphs."""
    import weakref

    from vtp.export.check import golden

    models: list[Any] = []
    load, verify = golden.load_torch_model, exporter.verify_bundle

    def loaded(*arguments: Any) -> Any:
        model = load(*arguments)
        models.append(weakref.ref(model))
        return model

    def verified(*arguments: Any, **named: Any) -> Any:
        assert [model() for model in models] == [None]
        return verify(*arguments, **named)

    monkeypatch.setattr(golden, "load_torch_model", loaded)
    monkeypatch.setattr(exporter, "verify_bundle", verified)
    options = ExportOptions(check="full", targets=("ort",))
    export_model(str(llava("deep")), tmp_path / "out", options)
