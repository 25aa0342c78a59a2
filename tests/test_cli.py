"""The command line: help, documentation, forms of output, and what goes to which stream."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image

import vtp as package
from vtp.cli import COMMANDS, group
from vtp.cli import command as top_command
from vtp.commands.calibrate import COMMANDS as CALIBRATIONS

FORMS = ("table", "json", "csv", "md")


def command(name: str) -> click.Command:
    """A command, or one of a group: ``calibrate keep``."""
    first, _, inner = name.partition(" ")
    found = top_command(first)
    if not inner:
        return found
    assert isinstance(found, click.Group)
    of_group = found.get_command(click.Context(found), inner)
    assert of_group is not None
    return of_group


@pytest.fixture(params=[*COMMANDS, *(f"calibrate {inner}" for inner in CALIBRATIONS)])
def name(request: pytest.FixtureRequest) -> str:
    """Every command."""
    return str(request.param)


def parts(shown: click.Command, kind: type) -> list[Any]:
    return [param for param in shown.params if isinstance(param, kind)]


# --- help and documentation ------------------------------------------------------------------


def test_every_command_has_help_with_an_example(vtp: Any, name: str) -> None:
    words = name.split()
    outcome = vtp(*words, "--help")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"Usage: vtp {name}" in outcome.out
    _, found, example = outcome.out.partition("Example:\n")
    assert found
    assert example.lstrip().startswith(f"vtp {name}")
    assert vtp(*words, "-h").out == outcome.out


def test_every_option_has_help(name: str) -> None:
    without = [option.opts for option in parts(command(name), click.Option) if not option.help]
    assert without == []


def test_every_argument_stands_in_the_help(vtp: Any, name: str) -> None:
    text = command(name).help or ""
    for argument in parts(command(name), click.Argument):
        word = (argument.metavar or argument.name.upper()).removesuffix("...")
        assert re.search(rf"\b{word}\b", text), word


def test_the_help_of_vtp_lists_every_command(vtp: Any) -> None:
    outcome = vtp("--help")
    assert outcome.status == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", outcome.out, re.MULTILINE)
    assert "Example:" in outcome.out


def test_the_version(vtp: Any) -> None:
    assert package.__version__ in vtp("--version").out


def test_every_command_and_option_is_documented(root: Path, name: str) -> None:
    text = (root / "docs" / "cli.md").read_text()
    assert f"## vtp {name}\n" in text
    for option in parts(command(name), click.Option):
        for opt in option.opts:
            assert opt in text
    assert set(group().list_commands(click.Context(group()))) == set(COMMANDS)


# --- forms of output -------------------------------------------------------------------------


def test_json_of_list_holds_the_registries(vtp: Any) -> None:
    outcome = vtp("list", "--format", "json")
    data = json.loads(outcome.out)
    assert list(data) == ["presets", "methods", "scores", "families", "engines"]
    assert "fastervlm" in [row["method"] for row in data["methods"]]
    assert "cpu" in [row["engine"] for row in data["engines"]]
    assert json.loads(vtp("list", "engines", "--format", "json").out) == {
        "engines": data["engines"]
    }


def test_json_of_inspect(vtp: Any, random_bundle: Path) -> None:
    data = json.loads(vtp("inspect", random_bundle, "--format", "json").out)
    parts = ["bundle", "stages", "graphs", "files", "variants", "engines", "history"]
    assert list(data) == parts
    assert {row["state"] for row in data["files"]} == {"intact"}
    assert {len(row["sha256"]) for row in data["files"]} == {64}
    facts = {row["entry"]: row["value"] for row in data["bundle"]}
    assert facts["method"] == "fastervlm"
    assert facts["image tokens"].startswith(
        "2.0 of 16 per layer on average (keep 0.1), can be changed"
    )
    inputs = {spec["name"] for graph in data["graphs"] for spec in graph["inputs"]}
    assert {"pixel_values", "keep", "past_key_values.1.value"} <= inputs


def test_json_of_verify_names_every_graph(vtp: Any, random_bundle: Path) -> None:
    (rows,) = json.loads(vtp("verify", random_bundle, "--format", "json").out).values()
    found = {(row["target"], row["graph"], row["output"]) for row in rows}
    for target in ("ort", "onnx"):
        for output in ("scores", "image_embeds"):
            assert (target, "vision", output) in found
        assert (target, "language.0", "logits") in found
    assert {row["keep"] for row in rows} == {"1.0", "0.1"}
    assert all(row["max"] < 1e-3 and row["cosine"] > 0.999 for row in rows)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shown", ["list", "inspect", "verify"])
def test_every_form_is_plain_and_has_its_shape(
    vtp: Any, random_bundle: Path, shown: str, form: str
) -> None:
    arguments = () if shown == "list" else (random_bundle,)
    outcome = vtp(shown, *arguments, "--format", form)
    assert (outcome.status, outcome.err) == (0, "")
    assert "\x1b" not in outcome.out
    if form == "json":
        assert json.loads(outcome.out)
    for section in outcome.out.split("\n\n"):
        if form == "csv":
            rows = list(csv.reader(io.StringIO(section)))
            assert rows[0][0] == "section"
            assert len({len(row) for row in rows}) == 1
        if form == "md" and section.startswith("|"):
            bars = [re.sub(r"\\\|", "", line).count("|") for line in section.splitlines()]
            assert len(set(bars)) == 1


def test_inspect_shows_everything_before_it_fails(
    vtp: Any, random_bundle: Path, copy_of: Any
) -> None:
    broken = copy_of(random_bundle)
    (broken / "golden.png").unlink()
    outcome = vtp("inspect", broken, "--format", "json")
    assert "golden.png" in outcome.error()
    states = {row["file"]: row["state"] for row in json.loads(outcome.out)["files"]}
    assert "is missing" in states.pop("golden.png")
    assert set(states.values()) == {"intact"}


# --- run -------------------------------------------------------------------------------------


@pytest.fixture
def run(vtp: Any, random_bundle: Path, scene: Path) -> Any:
    """``vtp run`` about the scene, a few tokens long."""

    def call(*arguments: Any) -> Any:
        given = ("--image", scene, "--prompt", "what?", "--max-new-tokens", "5")
        outcome = vtp("run", random_bundle, *given, *arguments)
        assert outcome.status == 0, outcome.err
        return outcome

    return call


def test_the_answer_alone_is_on_stdout(run: Any) -> None:
    document = json.loads(run("--format", "json").out)
    outcome = run()
    assert outcome.out.split() == document["text"].split()
    assert outcome.out.count("\n") == document["text"].count("\n") + 1
    stage, whole = outcome.err.splitlines()
    assert stage.startswith("[stage 0: layers 0..1 | 2 of 16 image tokens | ")
    assert "GFLOP | KV " in stage
    assert whole.startswith("[kept 2 of 16 image tokens, 2.0 per layer on average | prompt ")
    assert "GFLOP (per layer 2(2nda + 2ndk + 2nna + 3ndm))" in whole


def test_the_document_of_an_answer(run: Any) -> None:
    outcome = run("--format", "json", "--keep", "0.25")
    assert outcome.err == ""
    document = json.loads(outcome.out)
    assert (document["image_tokens"], document["image_tokens_before"]) == (4, 16)
    (kept,), (scores,) = document["kept"], document["scores"]
    assert kept == sorted(sorted(range(16), key=lambda i: (-scores[i], i))[:4])
    assert len(document["tokens"]) <= 5
    assert document["cache_tokens"] == document["prompt_tokens"] + len(document["tokens"]) - 1
    assert document["timings"]["ttft_ms"] > 0


def test_a_keep_that_is_a_count(run: Any) -> None:
    assert json.loads(run("--format", "json", "--keep", "1").out)["image_tokens"] == 1
    assert json.loads(run("--format", "json", "--keep", "1.0").out)["image_tokens"] == 16


def test_sampling_repeats_with_its_seed(run: Any) -> None:
    options = ("--format", "json", "--temperature", "5", "--seed")
    tokens = [json.loads(run(*options, seed).out)["tokens"] for seed in ("1", "1", "2")]
    assert tokens[0] == tokens[1] != tokens[2]


def test_the_overlay_is_a_picture_of_the_size_of_the_image(
    run: Any, scene: Path, tmp_path: Path
) -> None:
    target = tmp_path / "kept.png"
    outcome = run("--save-overlay", target)
    assert f"[overlay: {target}]" in outcome.err
    with Image.open(target) as picture, Image.open(scene) as original:
        assert (picture.format, picture.size) == ("PNG", original.size)
        assert picture.convert("RGB").tobytes() != original.convert("RGB").tobytes()
    assert [path.name for path in tmp_path.iterdir()] == ["kept.png"]


def test_several_images_give_numbered_overlays(run: Any, tmp_path: Path) -> None:
    second = tmp_path / "second.png"
    Image.new("RGB", (50, 40), "red").save(second)
    outcome = run("--image", second, "--save-overlay", tmp_path / "kept.png")
    sizes = {}
    for number in (1, 2):
        assert f"kept-{number}.png]" in outcome.err
        with Image.open(tmp_path / f"kept-{number}.png") as picture:
            sizes[number] = picture.size
    assert sizes[2] == (50, 40) != sizes[1]
    assert not (tmp_path / "kept.png").exists()


def test_a_question_without_an_image(vtp: Any, random_bundle: Path) -> None:
    outcome = vtp("run", random_bundle, "--prompt", "what?", "--max-new-tokens", "2")
    assert outcome.status == 0
    assert "[kept 0 of 0 image tokens" in outcome.err


# --- processes -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_reader_that_goes_away_is_no_error(start_vtp: Any, form: str) -> None:
    process = start_vtp("list", "presets", "--format", form)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=120)
    assert err == ""
    assert process.returncode != 0


def test_no_colour_on_a_terminal_that_asks_for_none(random_bundle: Path, tmp_path: Path) -> None:
    import os
    import pty

    from_terminal: dict[bool, bytes] = {}
    for no_colour in (False, True):
        master, slave = pty.openpty()
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        env |= {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if no_colour else {})
        process = subprocess.Popen(
            [sys.executable, "-m", "vtp", "list", "presets"], stdout=slave, env=env
        )
        os.close(slave)
        text = b""
        try:
            while block := os.read(master, 4096):
                text += block
        except OSError:  # Linux: the other side is closed
            pass
        os.close(master)
        assert process.wait() == 0
        from_terminal[no_colour] = text
    # Weight of the letters is left to the terminal, colour is not.
    colour = re.compile(rb"\x1b\[[0-9;]*(3[0-8]|4[0-8])[0-9;]*m")
    assert not colour.search(from_terminal[True])
    assert b"tiny" in from_terminal[False]


# --- export ----------------------------------------------------------------------------------


def test_vtp_export_is_vtp_export(vtp: Any, vtp_export: Any, tmp_path: Path) -> None:
    long, short = vtp("export", "--help"), vtp_export("--help")
    assert short.out == long.out.replace("Usage: vtp export", "Usage: vtp-export")
    assert short.status == 0
    arguments = ("tinny", "--out", tmp_path / "out", "--method", "random", "--seed", "1")
    assert vtp_export(*arguments).error() == vtp("export", *arguments).error()
    assert vtp_export("tiny").status == 2


@pytest.mark.slow
def test_an_export_tells_the_result_on_stdout_and_progress_on_stderr(
    vtp_export: Any, random_llava: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    outcome = vtp_export(
        random_llava, "--out", out, "--method", "random", "--seed", "3", "--keep", "4"
    )
    assert outcome.status == 0
    assert outcome.out.count("\n") == 1
    assert outcome.out.startswith(f"{out}: random, 4 of 16 image tokens kept by default; ")
    steps = ["reading the model", "tracing vision", "writing weights", "checking target"]
    places = [outcome.err.index(step) for step in steps]
    assert places == sorted(places)
    plan = json.loads((out / "manifest.json").read_text())["plan"]
    assert plan["methods"] == [{"name": "random", "parameters": {"seed": 3}}]
    assert plan["drops"][0]["keep"] == 4


# --- one grammar for keeps, and options that were renamed ---------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("run", "out", "--prompt", "what?"),
        ("export", "tiny", "--out", "out"),
        ("calibrate", "quantize", "out", "--data", "q.jsonl", "--out", "made"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_takes_one_keep_refuses_several(vtp: Any, words: tuple[str, ...]) -> None:
    outcome = vtp(*words, "--keep", "0.5", "--keep", "0.1")
    assert outcome.status == 2
    assert "--keep was given 2 times" in outcome.err


def test_the_old_names_of_options_still_work(vtp: Any, tmp_path: Path) -> None:
    asked = ("calibrate", "quantize", tmp_path, "--data", "q.jsonl")
    old = vtp(*asked, "--to", tmp_path / "made", "--weights", "int8")
    assert "Note: --to of vtp calibrate quantize is now --out" in old.err
    assert "Note: --weights of vtp calibrate quantize is now --precision" in old.err
    assert "is not a bundle" in old.err
    both = vtp(*asked, "--to", tmp_path / "made", "--out", tmp_path / "journal")
    assert (both.status, "--journal" in both.err) == (2, True)
    twice = vtp(*asked, "--out", "made", "--weights", "int8", "--precision", "fp8")
    assert (twice.status, "give --precision only" in twice.err) == (2, True)
    assert vtp(*asked).status == 2
