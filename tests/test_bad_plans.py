"""Plans that cannot be: one clear error, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode

import vtp
from vtp import errors
from vtp.export import ExportOptions, export_model
from vtp.export.plan.cut_model import cut_model
from vtp.export.plan.model_folder import ModelFolder
from vtp.export.plan.recipe import make_recipe


@pytest.fixture
def export(vtp: Any, random_llava: Path, tmp_path: Path) -> Callable[..., str]:
    """Exports a model of 2 decoder layers and 16 image tokens, and returns the error."""

    def call(*arguments: str) -> str:
        message: str = vtp("export", random_llava, "--out", tmp_path / "out", *arguments).error()
        assert list(tmp_path.iterdir()) == []
        return message

    return call


@pytest.mark.parametrize(
    ("arguments", "layers"),
    [
        (("--method", "fastv"), "2"),
        (("--method", "fastv", "--set", "layer=0"), "0"),
        (("--method", "fastv", "--set", "layer=-1"), "-1"),
        (("--stage", "2:0.5:attention"), "2"),
        (("--stage", "1:0.5:attention", "--stage", "1:0.2:attention"), "1, 1"),
        (("--method", "pyramiddrop"), "1, 2, 3"),
    ],
)
def test_a_layer_outside_the_decoder(
    export: Callable[..., str], arguments: tuple[str, ...], layers: str
) -> None:
    message = export(*arguments)
    assert f"before layer(s) {layers}, but this decoder has 2 layers" in message
    assert "1..1" in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stage", "1:0.5"), "LAYER:KEEP:SCORE"),
        (("--stage", "one:0.5:attention"), "LAYER:KEEP:SCORE"),
        (("--stage", "1:1.5:attention"), "out of range"),
        (("--stage", "1:0.5:love"), "known: attention, next-attention"),
        (("--method", "schedule"), "at least one --stage"),
        (("--method", "none", "--stage", "1:0.5:vision"), "cannot be combined"),
        (("--method", "fastv:99"), "it has no presets"),
        (("--method", "sparsevlm:99"), "sparsevlm:v2-64"),
        (("--method", "fastv+pyramiddrop"), "two of them drop tokens in the decoder"),
        (("--method", "fastervlm+random"), "two of them drop tokens in the vision side"),
        (("--method", "fastervlm+fastervlm"), "drop tokens in the vision side"),
        (("--method", "none+fastv"), "keep every token"),
        (("--method", "guide+fastv"), "keep every token"),
        (("--method", "fastervlm+"), "method '' is unknown"),
        (("--set", "colour=red"), "fastervlm.score"),
        (("--method", "none", "--set", "layer=1"), "it has no parameters"),
        (("--method", "fastv", "--set", "layer=two"), "a value of type int"),
        (("--method", "pyramiddrop", "--set", "layers=1,x"), "ints separated by commas"),
        (("--method", "pyramiddrop", "--set", "layers=1"), "one ratio for each"),
        (("--method", "sparsevlm", "--set", "version=v3"), "v1 or v2"),
        (("--method", "sparsevlm", "--set", "recycle=2"), "a share in (0, 1]"),
        (("--method", "sgl", "--set", "depth_share=1"), "a share in (0, 1)"),
        (("--score", "rows"), "cls or column-mean"),
        (("--positions", "scattered"), "compact or original or compact-per-stage"),
        (("--keep", "0.5,0.25"), "1 place(s) (the vision graph)"),
        (("--method", "fastervlm+fastv", "--set", "layer=1", "--keep", "0.2,0.5"), "grow"),
        (("--method", "fastv", "--set", "layer=1", "--average", "0.2"), "at least 0.531"),
        (("--method", "fastervlm", "--stage", "1:0.5:attention"), "keeps 0.1, 0.5 grow"),
        (("--keep", "0.5", "--average", "0.5"), "out of range"),
        (("--average", "2.0"), "out of range"),
    ],
)
def test_a_plan_that_cannot_be(
    export: Callable[..., str], arguments: tuple[str, ...], words: str
) -> None:
    assert words in export(*arguments)


def test_a_parameter_that_two_methods_have(random_llava: Path, tmp_path: Path) -> None:
    options = ExportOptions(
        method="vtc-cls+pyramiddrop", parameters={"layers": "1"}, keep=(0.5, 0.5, 0.5, 0.5)
    )
    with pytest.raises(errors.ParameterInvalid, match=r"vtc-cls\.layers or pyramiddrop\.layers"):
        export_model(str(random_llava), tmp_path / "out", options)


def test_a_vision_score_that_no_graph_emits(export: Callable[..., str]) -> None:
    message = export("--method", "schedule", "--stage", "1:0.5:vision")
    assert "no method on the vision side" in message


def test_set_needs_a_value(vtp: Any, random_llava: Path, tmp_path: Path) -> None:
    outcome = vtp("export", random_llava, "--out", tmp_path / "out", "--set", "layer")
    assert outcome.status == 2
    assert "P=VALUE" in outcome.err


@pytest.fixture(scope="module")
def staged(random_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drops before layer 1."""
    out = tmp_path_factory.mktemp("staged") / "bundle"
    export_model(
        str(random_llava), out, ExportOptions(method="fastervlm", stages=("1:0.05:attention",))
    )
    return out


def test_stages_alone_are_the_whole_plan(random_llava: Path) -> None:
    recipe = make_recipe(None, {}, ("1:0.5:attention",))
    opened = ModelFolder(random_llava)
    with FakeTensorMode():
        cut = cut_model(opened, recipe, dtype="float32", keep=None, average=None, context=None)
    plan = cut.plan
    assert plan.name == "schedule"
    assert [(drop.layer, drop.keep) for drop in plan.drops] == [(1, 0.5)]


def test_a_schedule_joins_the_method_named(staged: Path) -> None:
    plan = vtp.load(staged).bundle.manifest.plan
    assert plan.name == "fastervlm+schedule"
    assert [(drop.layer, drop.score) for drop in plan.drops] == [(0, "fastervlm"), (1, "attention")]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"keep": 0.5}, errors.KeepCountMismatch),
        ({"keep": (0.5, 0.5, 0.5)}, errors.KeepCountMismatch),
        ({"keep": (0.25, 0.5)}, errors.KeepGrows),
        ({"keep": (0.5, 17)}, errors.KeepOutOfRange),
        ({"keep": (0.5, 0.0)}, errors.KeepOutOfRange),
        ({"keep": (0.5, 0.5), "average": 0.5}, errors.KeepOutOfRange),
        ({"average": 0.0}, errors.KeepOutOfRange),
        ({"exit_threshold": 0.5}, errors.GuideMissing),
    ],
)
def test_settings_that_do_not_fit_the_plan(
    staged: Path, scene: Path, settings: dict[str, Any], error: type[Exception]
) -> None:
    pipeline = vtp.load(staged)
    with pytest.raises(error):
        pipeline.generate(scene, "what?", **settings)
    assert pipeline.generate(scene, "what?", max_new_tokens=1).tokens


def test_a_threshold_without_a_guide(vtp: Any, staged: Path, scene: Path) -> None:
    arguments = ("run", staged, "--image", scene, "--prompt", "what?")
    outcome = vtp(*arguments, "--exit-threshold", "0.9")
    assert outcome.status == 2
    assert "--guide" in outcome.err
    assert "is not a guide" in vtp(*arguments, "--guide", staged).error()


def test_a_graph_of_the_chain_that_is_missing(
    staged: Path, copy_of: Callable[[Path], Path], edit_json: Callable[..., None]
) -> None:
    bundle = copy_of(staged)

    def without_drops(data: Any) -> None:
        data["graphs"] = [g for g in data["graphs"] if not g["name"].startswith("drop")]

    edit_json(bundle / "manifest.json", without_drops)
    with pytest.raises(errors.ManifestInvalid, match=r"drop\.1"):
        vtp.load(bundle)


def test_a_plan_of_another_depth(
    staged: Path, copy_of: Callable[[Path], Path], edit_json: Callable[..., None]
) -> None:
    bundle = copy_of(staged)

    def deeper(data: Any) -> None:
        data["plan"]["layers"] = 3

    edit_json(bundle / "manifest.json", deeper)
    with pytest.raises(errors.ManifestInvalid, match=r"plan\.layers"):
        vtp.load(bundle)


def test_capacity_zero_is_no_default(staged: Path) -> None:
    with pytest.raises(errors.ContextTooLong):
        vtp.load(staged).chat(capacity=0)
