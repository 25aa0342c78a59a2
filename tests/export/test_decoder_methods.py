"""Methods that drop inside the decoder, through the exported bundle, against oracles.

The oracles (``staged_oracle.py``) know nothing of exporter and runtime. Compared are the greedy
answer, which patches every stage reads, the scores that decided it, and the bytes of KV cache that
follow from the rows of each stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vtp
from vtp.errors import KeepCountMismatch, KeepGrows
from vtp.runtime.chat.chat import Chat

from .staged_oracle import Keep, Oracle, OracleAnswer, OracleDrop, Rows

QUESTION = "how many shapes are there?"
AGAIN = "what number is shown?"
STEPS = 16
PATCHES = 144
TARGETS = ("ort", "onnx", "trt10")
GREEDY: dict[str, Any] = {"max_new_tokens": STEPS, "temperature": 0.0}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method as it is exported, and what it means."""

    method: str
    drops: tuple[OracleDrop, ...]
    """Those inside the decoder."""
    positions: str
    keeps: tuple[tuple[Keep, ...], ...]
    """Schedules to run with, the vision side's keep first where it drops too."""
    variant: str = "grouped-query"
    export: dict[str, Any] = field(default_factory=dict)
    """Options of the export that make it."""

    @property
    def vision(self) -> bool:
        """Whether the vision side drops too."""
        return self.method.startswith("fastervlm")


def _fastv(layer: int = 2, **changes: Any) -> tuple[OracleDrop, ...]:
    return (OracleDrop(layer=layer, score="last-row", **changes),)


def _pyramid(*layers: int, together: bool = False) -> tuple[OracleDrop, ...]:
    return tuple(
        OracleDrop(layer=layer, score="next-layer", floor=True, together=together)
        for layer in layers
    )


def _raters(score: str, *layers: int, recycle: bool) -> tuple[OracleDrop, ...]:
    return tuple(OracleDrop(layer=layer, score=score, recycle=recycle) for layer in layers)


_ONE: dict[str, Any] = {"keep": None, "layers": (2,), "ratios": (0.5,)}
_TWO: dict[str, Any] = {"keep": None, "layers": (1, 2), "ratios": (0.5, 0.25)}

CASES = {
    "fastv": Case(
        method="fastv",
        drops=_fastv(),
        positions="original",
        keeps=((1.0,), (0.25,), (1,)),
    ),
    "fastv, numbered anew, for each image": Case(
        method="fastv",
        drops=_fastv(together=False),
        positions="compact-per-stage",
        keeps=((1.0,), (0.4,), (1,)),
        export={"positions": "compact-per-stage", "budget": "image"},
    ),
    "pyramiddrop": Case(
        method="pyramiddrop",
        drops=_pyramid(2, 3, 4),
        positions="compact-per-stage",
        keeps=((1.0, 1.0, 1.0), (0.5, 0.25, 0.125), (0.4, 0.4, 0.1), (0.7, 0.3, 1)),
        variant="deep",
        export={"keep": None},
    ),
    "pyramiddrop, original numbers, over all images": Case(
        method="pyramiddrop",
        drops=_pyramid(2, together=True),
        positions="original",
        keeps=((1.0,), (0.3,), (1,)),
        export={**_ONE, "positions": "original", "budget": "all"},
    ),
    "sparsevlm v1": Case(
        method="sparsevlm",
        drops=_raters("raters", 1, 2, recycle=True),
        positions="compact-per-stage",
        keeps=((1.0, 1.0), (0.3, 0.2), (1.0, 0.1), (0.3, 0.3), (66 / 576, 1)),
        export=_TWO,
    ),
    "sparsevlm v2": Case(
        method="sparsevlm",
        drops=_raters("raters-v2", 1, 2, recycle=False),
        positions="original",
        keeps=((1.0, 1.0), (0.5, 0.2), (0.3, 1)),
        export={**_TWO, "version": "v2"},
    ),
    "sgl": Case(
        method="sgl",
        drops=(OracleDrop(layer=2, score="guide", floor=True),),
        positions="original",
        keeps=((1.0,), (0.35,), (1,)),
        export={"depth_share": 0.67},
    ),
    "schedule": Case(
        method="schedule",
        drops=(
            OracleDrop(layer=1, score="last-row"),
            OracleDrop(layer=2, score="next-layer"),
        ),
        positions="original",
        keeps=((1.0, 1.0), (0.5, 0.25), (1.0, 0.25), (0.2, 1)),
        export={"keep": None, "stages": ("1:0.5:attention", "2:0.25:next-attention")},
    ),
    "fastervlm+schedule": Case(
        method="fastervlm+schedule",
        drops=(OracleDrop(layer=2, score="vision"),),
        positions="compact",
        keeps=((1.0, 1.0), (0.6, 0.3), (1.0, 0.3), (0.2, 1)),
        export={"keep": (0.6, 0.3), "stages": ("2:0.3:vision",)},
    ),
    "fastervlm+pyramiddrop": Case(
        method="fastervlm+pyramiddrop",
        drops=_pyramid(2),
        positions="compact-per-stage",
        keeps=((1.0, 1.0), (0.5, 0.125), (0.4, 1)),
        export=_ONE,
    ),
    "fastervlm+fastv": Case(
        method="fastervlm+fastv",
        drops=_fastv(),
        positions="compact",
        keeps=((1.0, 1.0), (0.5, 0.1), (0.3, 1)),
        export={"keep": None},
    ),
}
MATRIX = [
    pytest.param(name, images, keep, id=f"{name}: {images} images, {keep}")
    for name, case in CASES.items()
    for images in (1, 2)
    for keep in case.keeps
] + [pytest.param(name, 0, case.keeps[1], id=f"{name}: no image") for name, case in CASES.items()]


def pictures_of(images: int, seed: int) -> list[Image.Image]:
    """Noise, so that every patch differs."""
    noise = np.random.default_rng(seed)
    shape = (images, 53, 61, 3)
    return [Image.fromarray(pixels) for pixels in noise.integers(0, 256, shape, dtype=np.uint8)]


def guidance(images: int) -> np.ndarray:
    """Scores such as a guide would give."""
    scores = np.random.default_rng(7).random((images, PATCHES), dtype=np.float32)
    scores[1:] *= 0.8  # one image matters less than the other
    return scores


@dataclass(frozen=True)
class Bench:
    """A case's bundle in every target, beside its oracle."""

    case: Case
    oracle: Oracle
    pipelines: dict[str, vtp.Pipeline]

    def rows(self, pictures: Sequence[Image.Image], keeps: Sequence[Keep], question: str) -> Rows:
        """The prompt as the oracle reads it."""
        ids = self.oracle.prompt(question, 0 if "<image>" in question else len(pictures))
        keep = round(keeps[0] * PATCHES) if isinstance(keeps[0], float) else keeps[0]
        return self.oracle.read(ids, pictures, keep if self.case.vision else None)

    def expected(
        self,
        pictures: Sequence[Image.Image],
        keeps: Sequence[Keep],
        question: str = QUESTION,
        **changes: Any,
    ) -> OracleAnswer:
        """The oracle's answer, or that of an oracle with other ``drops`` or ``positions``."""
        told: dict[str, Any] = {"drops": self.case.drops, "positions": self.case.positions}
        return self.oracle.answer(
            self.rows(pictures, keeps, question),
            keeps=keeps[1:] if self.case.vision else keeps,
            steps=STEPS,
            given={"guide": guidance(len(pictures))},
            **{**told, **changes},
        )

    def answer(
        self,
        target: str,
        pictures: Sequence[Image.Image],
        keeps: Sequence[Keep],
        question: str = QUESTION,
    ) -> vtp.Result:
        """The bundle's answer."""
        scores = {"guide": guidance(len(pictures))} if self.case.method == "sgl" else None
        chat = Chat(self.pipelines[target], None)
        settings = vtp.Settings(keep=tuple(keeps), **GREEDY)
        request = chat.request(list(pictures), question, settings=settings, scores=scores)
        return chat.run(request).finish()


@pytest.fixture(scope="module")
def bench(llava: Callable[[str], Path], exported: Callable[..., Path]) -> Callable[[str], Bench]:
    """Makes a case's bundle and oracle, once."""
    made: dict[str, Bench] = {}
    oracles: dict[str, Oracle] = {}

    def make(name: str) -> Bench:
        if name not in made:
            case = CASES[name]
            folder = exported(case.variant, case.method, **case.export)
            pipelines = {target: vtp.load(folder, threads=1, target=target) for target in TARGETS}
            oracle = oracles.setdefault(case.variant, Oracle(llava(case.variant)))
            made[name] = Bench(case, oracle, pipelines)
        return made[name]

    return make


@pytest.mark.parametrize(("name", "images", "keep"), MATRIX)
def test_answers_are_those_of_the_oracle(
    bench: Callable[[str], Bench], name: str, images: int, keep: tuple[Keep, ...]
) -> None:
    subject = bench(name)
    pictures = pictures_of(images, seed=20)
    expected = subject.expected(pictures, keep)
    for target in TARGETS:
        result = subject.answer(target, pictures, keep)
        assert_stages(result, expected, subject.oracle.model.config.text_config)
        assert list(result.tokens) == expected.tokens, target


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "sparsevlm v1", "sparsevlm v2", "sgl"])
def test_text_between_images_stays_where_it_is(bench: Callable[[str], Bench], name: str) -> None:
    subject, pictures = bench(name), pictures_of(2, seed=22)
    question = "is <image> as large as <image> here?"
    keep = subject.case.keeps[1]
    expected = subject.expected(pictures, keep, question)
    for target in TARGETS:
        result = subject.answer(target, pictures, keep, question)
        assert_stages(result, expected, subject.oracle.model.config.text_config)
        assert list(result.tokens) == expected.tokens, target


def assert_stages(
    result: vtp.Result, expected: OracleAnswer, config: Any, whole: bool = True
) -> None:
    """Every stage read what the oracle's did, and its cache is as large as that makes it.

    ``whole``: nothing but this answer is in the cache.
    """
    assert len(result.stages) == len(expected.stages)
    row = 2 * config.num_key_value_heads * config.head_dim * 4
    arrived = expected.stages[0].image_tokens
    for number, (stage, truth) in enumerate(zip(result.stages, expected.stages, strict=True)):
        if number:
            assert [kept.tolist() for kept in stage.kept] == truth.kept
            assert (stage.scores is None) == (truth.scores is None)
            if truth.scores is not None:
                np.testing.assert_allclose(stage.scores, truth.scores, rtol=2e-3, atol=1e-6)
        assert (stage.arrived, stage.image_tokens) == (arrived, truth.image_tokens)
        assert stage.tokens == truth.tokens
        assert stage.kv_bytes == (stage.stop - stage.first) * row * (truth.tokens + STEPS - 1)
        arrived = truth.image_tokens
    assert not whole or result.cache_bytes == sum(stage.kv_bytes for stage in result.stages)
    layers = [stage.stop - stage.first for stage in result.stages]
    assert sum(layers) == config.num_hidden_layers
    seen = sum(n * stage.image_tokens for n, stage in zip(layers, expected.stages, strict=True))
    assert result.average_tokens == pytest.approx(seen / sum(layers))


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize(
    "name", ["fastv", "pyramiddrop", "sparsevlm v1", "sparsevlm v2", "schedule"]
)
def test_a_second_turn_reads_the_pruned_first_from_the_cache(
    bench: Callable[[str], Bench], name: str, images: int
) -> None:
    subject = bench(name)
    keeps, oracle = subject.case.keeps[1], subject.oracle
    before, now = pictures_of(1, seed=31), pictures_of(images, seed=32)
    for target in TARGETS:
        chat = subject.pipelines[target].chat(capacity=500)
        first = chat.ask(before, QUESTION, keep=keeps, max_new_tokens=6, temperature=0.0)
        assert first.finished == "length"
        second = chat.ask(now or None, AGAIN, keep=keeps, **GREEDY)

        turns = [
            {"role": "user", "content": [{"type": "image"}, _text(QUESTION)]},
            {"role": "assistant", "content": [_text("ANSWER")]},
            {"role": "user", "content": [*[{"type": "image"}] * images, _text(AGAIN)]},
        ]
        text = oracle.processor.apply_chat_template(turns, add_generation_prompt=True)
        head, tail = text.split("ANSWER")
        rows = oracle.follow(
            oracle.read(oracle.ids(head), before),
            first.tokens,
            oracle.ids(tail, add_special_tokens=False),
            now,
        )
        expected = oracle.answer(
            rows, subject.case.drops, keeps, subject.case.positions, steps=STEPS
        )
        assert_stages(second, expected, oracle.model.config.text_config, whole=False)
        assert list(second.tokens) == expected.tokens, target


def _text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


WRONG: dict[str, dict[str, dict[str, Any]]] = {
    "fastv": {
        "no drop": {"drops": (replace(_fastv()[0], layer=99),)},
        "a layer early": {"drops": _fastv(1)},
        "numbered anew": {"positions": "compact-per-stage"},
        "attention of the next layer": {"drops": (OracleDrop(layer=2, score="next-layer"),)},
        "for each image": {"drops": _fastv(together=False)},
    },
    "pyramiddrop": {
        "numbers kept": {"positions": "original"},
        "attention of the layer before": {
            "drops": tuple(replace(drop, score="last-row") for drop in _pyramid(2, 3, 4))
        },
        "over all images": {"drops": _pyramid(2, 3, 4, together=True)},
    },
    "sparsevlm v1": {
        "nothing merged": {"drops": _raters("raters", 1, 2, recycle=False)},
        "attention of the last row": {"drops": _raters("last-row", 1, 2, recycle=True)},
    },
    "sparsevlm v2": {
        "as version 1": {"drops": _raters("raters", 1, 2, recycle=False)},
        "numbered anew": {"positions": "compact-per-stage"},
    },
}


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in WRONG.items() for fault in faults]
)
def test_an_oracle_with_a_fault_disagrees(
    bench: Callable[[str], Bench], name: str, fault: str
) -> None:
    """Shows that the comparison would see the fault."""
    subject = bench(name)
    pictures, keeps = pictures_of(2, seed=20), subject.case.keeps[1]
    wrong = subject.expected(pictures, keeps, **WRONG[name][fault])
    assert list(subject.answer("ort", pictures, keeps).tokens) != wrong.tokens


def test_keeps_that_the_plan_cannot_take_are_refused(bench: Callable[[str], Bench]) -> None:
    pipeline = bench("pyramiddrop").pipelines["ort"]
    pictures = pictures_of(1, seed=20)
    for keep in (0.5, (0.5, 0.25), (0.5, 0.25, 0.1, 0.1)):
        with pytest.raises(KeepCountMismatch):
            pipeline.generate(pictures, QUESTION, keep=keep)
    with pytest.raises(KeepGrows):
        pipeline.generate(pictures, QUESTION, keep=(0.25, 0.5, 0.1))
