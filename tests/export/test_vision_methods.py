"""Every vision-side method against NumPy, and its answers against ``generate`` of transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vtp
from vtp.errors import ParameterInvalid, ScoreNotAvailable
from vtp.export import ExportOptions, export_model
from vtp.export.methods import METHODS, method_class
from vtp.export.methods.base import AttentionScored, VisionMethod
from vtp.export.methods.cdpruner import greedy_map
from vtp.export.methods.divprune import max_min
from vtp.export.methods.vispruner import thin_out
from vtp.export.ops.shares import floor_share
from vtp.export.plan.recipe import make_recipe

from . import vision_oracle
from .test_parity import QUESTION, STEPS, HuggingFace, picture
from .vision_oracle import Chosen, Look, look, thinned

PATCHES = 144
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("grouped-query", "fastervlm", {}),
    ("grouped-query", "vtc-cls", {}),
    ("shallow", "fopru", {}),
    ("shallow", "visionzip", {}),
    ("shallow", "vispruner", {}),
    ("shallow", "divprune", {}),
    ("shallow", "cdpruner", {}),
    ("shallow", "random", {"seed": 3}),
    ("shallow", "uniform", {}),
    ("siglip", "fastervlm", {"score": "column-mean"}),
    ("siglip", "vtc-cls", {"score": "column-mean", "layers": 2}),
    ("siglip", "fopru", {"score": "column-mean", "strategy": "row"}),
    ("siglip", "visionzip", {"score": "column-mean", "contextual": 0.3}),
    ("siglip", "vispruner", {"score": "column-mean", "important": 0.4}),
]
KEEPS = [(1, 1), (0.25, 1), (0.25, 2), (1.0, 1)]
"""Keep and number of images."""


@dataclass(frozen=True)
class Subject:
    """A method's bundle, and what it has to do."""

    reference: HuggingFace
    oracle: Callable[[Look, int], Chosen]
    pipelines: Mapping[tuple[str, str], vtp.Pipeline]
    """By position mode and target."""


@pytest.fixture(scope="module")
def references(llava: Callable[[str], Path]) -> Callable[[str], HuggingFace]:
    made: dict[str, HuggingFace] = {}

    def reference(variant: str) -> HuggingFace:
        if variant not in made:
            made[variant] = HuggingFace(llava(variant))
        return made[variant]

    return reference


@pytest.fixture(
    params=CASES, ids=lambda case: "-".join([case[0], case[1], *case[2]]), scope="module"
)
def subject(
    request: pytest.FixtureRequest,
    references: Callable[[str], HuggingFace],
    exported: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Subject:
    variant, method, parameters = request.param
    # The graphs of this mode take any numbers; the other mode is another word in the plan.
    original = exported(variant, method, positions="original", **parameters)
    compact = tmp_path_factory.mktemp("compact") / original.name
    shutil.copytree(original, compact)
    manifest = json.loads((compact / "manifest.json").read_text())
    assert manifest["plan"]["positions"] == "original"
    manifest["plan"]["positions"] = "compact"
    (compact / "manifest.json").write_text(json.dumps(manifest))
    return Subject(
        references(variant),
        lambda seen, keep: vision_oracle.METHODS[method](seen, keep, **parameters),
        {
            (positions, target): vtp.load(bundle, target=target)
            for positions, bundle in (("original", original), ("compact", compact))
            for target in ("ort", "onnx", "trt10")
        },
    )


@torch.no_grad()
def expected(
    subject: Subject, keep: int, images: int
) -> tuple[list[list[int]], Callable[[str], list[int]]]:
    """Kept patches of each image, and the greedy answer by position mode."""
    hf = subject.reference
    model, image_token = hf.model, hf.model.config.image_token_id
    pictures = [picture(20 + seed) for seed in range(images)]
    pixels = hf.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    ids = hf.tokenizer(hf.prompt(QUESTION, images))["input_ids"]
    looks = look(model, pixels, [token for token in ids if token != image_token])
    chosen = [subject.oracle(seen, keep) for seen in looks]

    def answer(positions: str) -> list[int]:
        left, rows, numbers, number = list(chosen), [], [], 0
        for token in ids:
            if token == image_token:
                of_image = left.pop(0)
                features = torch.from_numpy(of_image.features).float()
                rows.append(model.model.multi_modal_projector(features))
                numbers += [number + max(patch, 0) for patch in of_image.kept]
                number += PATCHES
            else:
                rows.append(model.get_input_embeddings()(torch.tensor([token])))
                numbers.append(number)
                number += 1
        embeds = torch.cat(rows)[None]
        if positions == "compact":
            return hf.continue_from(embeds)
        return numbered(model, embeds, torch.tensor([numbers]), number)

    return [c.kept for c in chosen], answer


def numbered(model: Any, embeds: torch.Tensor, positions: torch.Tensor, number: int) -> list[int]:
    """Greedy answer where tokens carry these numbers and the first new one is ``number``."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    tokens: list[int] = []
    cache = None
    while len(tokens) < STEPS and not (tokens and tokens[-1] in ends):
        out = model.model.language_model(
            inputs_embeds=embeds, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = out.past_key_values
        tokens.append(int(model.lm_head(out.last_hidden_state[0, -1]).argmax()))
        embeds = model.get_input_embeddings()(torch.tensor([tokens[-1:]]))
        positions = torch.tensor([[number + len(tokens) - 1]])
    return tokens


@pytest.mark.parametrize(("keep", "images"), KEEPS)
def test_kept_tokens_and_answers(subject: Subject, keep: int | float, images: int) -> None:
    count = keep if isinstance(keep, int) else round(keep * PATCHES)
    kept, answer = expected(subject, count, images)
    pictures = [picture(20 + seed) for seed in range(images)]
    for positions in ("compact", "original"):
        wanted = answer(positions)
        for target in ("ort", "onnx", "trt10"):
            pipeline = subject.pipelines[positions, target]
            result = pipeline.generate(pictures, QUESTION, keep=keep, max_new_tokens=STEPS)
            assert [indices.tolist() for indices in result.kept] == kept
            assert list(result.tokens) == wanted
            assert result.image_tokens == count * images


def test_nothing_is_dropped_at_a_keep_of_all(subject: Subject) -> None:
    pictures = [picture(30)]
    wanted = subject.reference.unpruned(pictures, QUESTION)
    for pipeline in subject.pipelines.values():
        result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(result.tokens) == wanted


def test_every_vision_side_method_is_among_the_cases() -> None:
    vision = {name for name in METHODS if issubclass(method_class(name), VisionMethod)}
    assert {method for _, method, _ in CASES} == vision == set(vision_oracle.METHODS)
    for name in vision:
        if issubclass(method_class(name), AttentionScored):
            assert any((v, m) == ("siglip", name) for v, m, _ in CASES)


@dataclass(frozen=True)
class Kind:
    """A tower, as far as a method asks before it runs."""

    has_cls: bool
    free_size: bool = False
    one_to_one: bool = True


@pytest.mark.parametrize(
    "method", [name for name in METHODS if issubclass(method_class(name), AttentionScored)]
)
def test_a_tower_without_cls_is_refused(method: str) -> None:
    vision = make_recipe(method, {}).vision
    assert vision is not None
    vision.check(Kind(has_cls=True))
    with pytest.raises(ScoreNotAvailable, match=r"score=column-mean.*divprune"):
        vision.check(Kind(has_cls=False))
    other = make_recipe(method, {"score": "column-mean"}).vision
    assert other is not None
    other.check(Kind(has_cls=False))


def test_the_export_of_a_tower_without_cls_says_what_fits(
    llava: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ScoreNotAvailable):
        export_model(str(llava("siglip")), tmp_path / "out", ExportOptions(method="fastervlm"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("vtc-cls", {"layers": "0"}),
        ("visionzip", {"contextual": "1.0"}),
        ("visionzip", {"contextual": "-0.1"}),
        ("vispruner", {"important": "1"}),
        ("fopru", {"strategy": "column"}),
        ("cdpruner", {"relevance_weight": "1.5"}),
        ("fastervlm", {"score": "mean"}),
    ],
)
def test_parameters_out_of_range(method: str, parameters: dict[str, str]) -> None:
    with pytest.raises(ParameterInvalid):
        make_recipe(method, parameters)


def test_more_layers_than_the_tower_has() -> None:
    vision = make_recipe("vtc-cls:repo", {}).vision
    assert vision is not None
    assert vision.score_layer(23) == 22
    with pytest.raises(ParameterInvalid, match="at most the 3 layers"):
        vision.score_layer(3)


@pytest.mark.parametrize(
    ("keep", "merged"), [(64, 10), (128, 20), (192, 30), (1, 0), (6, 0), (7, 1)]
)
def test_contextual_tokens_are_as_many_as_published(keep: int, merged: int) -> None:
    assert floor_share(torch.tensor([keep]), 10 / 64).tolist() == [merged]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.29, 0.3, 0.5, 0.999])
def test_a_share_is_the_fraction_that_its_digits_mean(share: float) -> None:
    thousandths = round(share * 1000)
    for count in range(1, 3000, 7):
        assert floor_share(torch.tensor([count]), share).tolist() == [count * thousandths // 1000]


@pytest.mark.parametrize(
    ("patches", "keep"),
    # The published code stops at 58 of 576.
    [(n, keep) for n in (144, 145) for keep in (1, 2, 3, 7, 29, 143, 144)] + [(576, 58), (576, 64)],
)
def test_lines_of_odd_and_even_length_are_thinned_out(patches: int, keep: int) -> None:
    rng = np.random.default_rng(keep)
    scores = rng.random(patches).astype(np.float32)
    similar = rng.random((patches, patches)).astype(np.float32)
    important = keep // 2
    place = thin_out(
        torch.from_numpy(scores)[None],
        torch.from_numpy(similar)[None],
        torch.tensor([important]),
        torch.tensor([keep - important]),
    )[0].numpy()
    assert len(set(place.tolist())) == patches
    kept = np.argsort(place, kind="stable")[:keep]
    assert sorted(kept.tolist()) == sorted(thinned(scores, similar, keep, 0.5))


def test_copies_of_a_token_are_not_picked_twice() -> None:
    """Three different tokens, each many times: the fourth pick has no distance left."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(np.repeat(rng.standard_normal((3, 8)), 4, axis=0).astype(np.float32))
    for keep in (3, 4, 11):
        scores = max_min(tokens[None], torch.tensor([keep]))[0].numpy()
        kept = vision_oracle.falling(scores)[:keep]
        assert len({j // 4 for j in kept}) == 3
        assert np.isfinite(scores).all()


def test_a_kernel_of_low_rank_gives_out_and_relevance_goes_on() -> None:
    rng = np.random.default_rng(1)
    tokens = rng.standard_normal((20, 3))
    similar = torch.from_numpy(vision_oracle.cosine(tokens, tokens).astype(np.float32))[None]
    relevance = torch.from_numpy(rng.uniform(0.5, 1, (1, 20)).astype(np.float32))
    scores = greedy_map(similar, relevance, torch.tensor([8]))[0].numpy()
    assert np.isfinite(scores).all()
    order = vision_oracle.falling(scores)
    assert scores[order[2]] > 1e-3 > scores[order[3]]
    spent = [j for j in vision_oracle.falling(relevance[0].numpy()) if j not in order[:3]]
    assert order[3:] == spent
