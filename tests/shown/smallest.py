"""How each command that is shown runs here: at its smallest size, on what lies in the folder.

A row holds for every command that begins with its words; longer rows are applied after shorter
ones. What no row knows fails ``test_known.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .pages import Words

Options = Mapping[str, str | None]


@dataclass(frozen=True, kw_only=True)
class Smallest:
    """What is changed in a command before it runs."""

    always: Options = field(default_factory=dict)
    """Options and their values, in the place of those that are shown; None: a flag."""
    given: Options = field(default_factory=dict)
    """Values of options that are shown."""
    absent: Options = field(default_factory=dict)
    """Options that are added where they are not shown."""
    words: Mapping[str, str | None] = field(default_factory=dict)
    """Words in the place of others; None leaves them out."""
    why: str = ""
    """Why something else runs, where it is more than a size."""


_DATA = "questions/questions.jsonl"
_SHORT: Options = {"--data": _DATA, "--max-new-tokens": "2", "--confidence": "0"}
_TINY: Options = {"--threads": "1", "--repeat": "1", "--steps": "2"}
_NO_DEVICE = "engines for NVIDIA devices run on one only: the request is that to the processor"

ROWS: dict[str, Smallest] = {
    "vtp export": Smallest(
        always={"--out": "made", "--force": None},
        given={"--plan": "plan.json", "--check": "layers:1"},
        absent={"--target": "ort"},
        words={"tiny": "shallow", "tiny-guide": "shallow", "llava15": "shallow"}
        | {"./my-llava": "shallow", "16:0.1:next-attention": "3:0.1:next-attention"},
        why="presets come from the hub",
    ),
    "vtp export llava15 --method pyramiddrop": Smallest(words={"shallow": "deep"}),
    "vtp export llava15 --method fastv": Smallest(words={"shallow": "deep"}),
    "vtp export llava15 --stage": Smallest(words={"shallow": "deep"}),
    "vtp export tiny --stage": Smallest(words={"shallow": "deep"}),
    "vtp run": Smallest(
        always={"--max-new-tokens": "2"},
        words={"tensorrt": "cpu", "tensorrt-rtx": "cpu"},
        why=_NO_DEVICE,
    ),
    "vtp build": Smallest(
        given={"--max-tokens": "100"},
        words={"tensorrt": "tensorrt-rtx"},
        why="TensorRT itself builds on a device only",
    ),
    "vtp inspect": Smallest(),
    "vtp verify": Smallest(words={"tensorrt": "cpu"}, why=_NO_DEVICE),
    "vtp profile": Smallest(
        always={"--keep": "0.1", "--new-tokens": "2", "--repeat": "1", "--warmup": "1"}
    ),
    "vtp calibrate keep": Smallest(
        always=_SHORT, given={"--max-drop": "100"}, absent={"--keep": "0.5", "--max-drop": "100"}
    ),
    "vtp calibrate schedule": Smallest(
        always={"--data": _DATA, "--max-new-tokens": "2", "--out": "found"},
        given={"--max-drop": "100", "--average": "0.5"},
        words={"tiny": "out/search"},
        why="a model is exported first: once is enough",
    ),
    "vtp calibrate schedule tiny --data questions.jsonl --average 0.4 --method": Smallest(
        words={"out/search": "shallow"}
    ),
    "vtp calibrate exit": Smallest(always=_SHORT, given={"--accuracy": "0"}),
    "vtp calibrate quantize": Smallest(
        always={**_SHORT, "--out": "made", "--requests": "2", "--max-drop": "100"},
        words={"out/tiny": "out/llava15"},
    ),
    "vtp list": Smallest(),
    "vtp doctor": Smallest(),
    "python -m vtp.samples.evaluate": Smallest(
        always={"--count": "7"}, words={"NAME=BUNDLE": "fastervlm=out/tiny", "...": None}
    ),
    "python -m vtp.samples.write_questions": Smallest(always={"--count": "3", "--out": "made"}),
    "python -m vtp.samples.training.train": Smallest(
        always={"--out": "made", "--scenes": "64", "--steps": "1", "--count": "7"}
    ),
    "python -m vtp.bench.compare": Smallest(
        always={"--model": "tiny", **_TINY, "--out": "made.json"}
    ),
    "python -m vtp.bench.methods": Smallest(
        always={"--model": "tiny", **_TINY, "--discard": None, "fastervlm": None}
    ),
    "python -m vtp.bench.chaining": Smallest(always={**_TINY, "--repeat": "2"}),
    "python -m vtp.bench.cache_cost": Smallest(always={"--threads": "1", "--repeat": "1"}),
    "python -m vtp.bench.llamacpp": Smallest(
        always={**_TINY, "--alone": None},
        words={"INT4_BUNDLE": "out/tiny", "FLOAT32_BUNDLE": "out/tiny"},
        why="llama.cpp is compiled for minutes: tests/bench/test_llamacpp.py has a stand-in",
    ),
    "python -m vtp.bench.export": Smallest(
        always={"--size": "tiny", "--rival": "./rival", "--out": "made.json"},
        why="the rival is a package of its own: a stand-in writes its files",
    ),
    "python -m vtp.bench.targets": Smallest(always={"--method": "fastervlm", "--repeat": "1"}),
    "python docs/make_cli.py": Smallest(),
    "python docs/make_quotes.py": Smallest(),
    "python docs/make_models.py": Smallest(),
    "python docs/make_graphs.py": Smallest(),
    "python -m vtp.samples.make_checkpoint": Smallest(always={"--out": "made"}),
}

ELSEWHERE: dict[str, str] = {
    "make": "its recipes stand in the table themselves",
    "python -m vtp.bench.gpu": "tests/bench/gpu/test_main.py runs it as it is",
    "python -m pytest": "that is what runs now",
    "ruff": "make lint runs it before the tests",
    "mypy": "make lint runs it before the tests",
    "python .ci/check_torch.py": "asks the package index: tests/test_check_torch.py answers for it",
    "pip install": "tests/test_without_torch.py installs the wheel with extras",
    "python -m pip install": "tests/test_without_torch.py installs the wheel with extras",
    "python3 -m venv": "tests/test_without_torch.py makes environments",
    "python3 -c": "asks for the TensorRT that belongs to a Jetson",
    "sudo apt": "changes the system of a Jetson",
}
"""What does not run from the table, and where it does, or why it cannot."""

BUNDLES: dict[str, str] = {
    **dict.fromkeys(
        (
            "out/tiny",
            "out/tiny-random",
            "out/tiny-uniform",
            "out/tiny-float16",
            "out/tiny-int8",
            "out/tiny-int4",
            "out/tiny-q8",
            "out/tiny-awq",
            "out/divprune",
            "out/fastv",
            "out/bench/real-none",
        ),
        "tiny_bundle",
    ),
    "out/bench/real-pyramiddrop": "sgl_bundle",
    "out/llava15": "random_bundle",
    "out/sgl": "sgl_bundle",
    "out/large": "sgl_bundle",
    "out/guide": "guide_bundle",
    "out/small": "guide_bundle",
    "out/search": "search_bundle",
    "out/video-llava": "video_bundle",
    "out/qwen2-vl-2b": "qwen_bundle",
}
"""Bundles that commands read -> the fixture that lies there."""


def matching(words: Words, table: Mapping[str, object]) -> list[str]:
    """The rows of a table that a command begins with, the shortest in front."""
    keys = [key for key in table if words[: len(key.split())] == tuple(key.split())]
    return sorted(keys, key=len)


def smallest(words: Words) -> Words:
    """A shown command as it runs here."""
    found = list(words)
    for row in (ROWS[key] for key in matching(words, ROWS)):
        changed = (row.words.get(word, word) for word in found)
        found = [word for word in changed if word is not None]
        values = {option: value for option, value in row.given.items() if option in found}
        values |= {option: value for option, value in row.absent.items() if option not in found}
        for option, value in {**values, **row.always}.items():
            found = _without(found, option, value is not None)
            found += [option] if value is None else [option, value]
    return tuple(found)


def _without(words: list[str], option: str, has_value: bool) -> list[str]:
    while option in words:
        at = words.index(option)
        words = words[:at] + words[at + 1 + has_value :]
    return words
