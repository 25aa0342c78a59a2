"""Greedy choice, temperature, nucleus, seeds, and what is refused."""

import numpy as np
import pytest

from vtp.errors import SamplingInvalid
from vtp.runtime.model.sampling import Sampler


def logits_of(*probabilities: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.array(probabilities)).astype(np.float32)


def drawn(sampler: Sampler, logits: np.ndarray, count: int = 4000) -> np.ndarray:
    """Relative frequencies ``(vocab,)``."""
    tokens = [sampler(logits) for _ in range(count)]
    return np.bincount(tokens, minlength=len(logits)) / count


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_greedy_takes_the_highest_and_the_lowest_index_on_ties(dtype: type) -> None:
    greedy = Sampler()
    assert greedy(np.array([1, 3, 2], dtype)) == 1
    assert greedy(np.array([0, 5, 5, 5], dtype)) == 1
    assert greedy(np.array([-0.0, 0.0], dtype)) == 0
    assert greedy(np.array([-np.inf, -7], dtype)) == 1
    assert type(greedy(np.array([1], dtype))) is int


def test_greedy_ignores_top_p() -> None:
    assert Sampler(0, 0.01, 3)(logits_of(0.2, 0.5, 0.3)) == 1


def test_draws_follow_the_softmax() -> None:
    frequencies = drawn(Sampler(1.0, seed=0), logits_of(0.1, 0.6, 0.0, 0.3))
    assert frequencies == pytest.approx([0.1, 0.6, 0.0, 0.3], abs=0.03)
    assert frequencies[2] == 0


def test_temperature_sharpens_and_flattens() -> None:
    logits = logits_of(0.2, 0.8)
    assert drawn(Sampler(0.5, seed=0), logits) == pytest.approx([1 / 17, 16 / 17], abs=0.03)
    assert drawn(Sampler(2.0, seed=0), logits) == pytest.approx([1 / 3, 2 / 3], abs=0.03)
    assert drawn(Sampler(1e9, seed=0), logits) == pytest.approx([0.5, 0.5], abs=0.03)


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_tiny_temperatures_are_greedy_but_for_ties(temperature: float) -> None:
    sampler = Sampler(temperature, seed=0)
    assert {sampler(np.array([1.0, 2.0, 1.5])) for _ in range(50)} == {1}
    assert {sampler(np.array([2.0, 1.0, 2.0])) for _ in range(50)} == {0, 2}


@pytest.mark.parametrize(
    ("top_p", "nucleus"),
    [(1e-9, {1}), (0.49, {1}), (0.51, {1, 3}), (0.81, {1, 3, 0}), (0.99, {0, 1, 2, 3})],
)
def test_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, nucleus: set[int]) -> None:
    sampler = Sampler(1.0, top_p, seed=0)
    logits = logits_of(0.15, 0.5, 0.05, 0.3)
    assert {sampler(logits) for _ in range(500)} == nucleus


def test_nucleus_of_ties_takes_lower_indices_and_is_exact_at_the_border() -> None:
    sampler = Sampler(1.0, 0.5, seed=0)
    assert {sampler(np.zeros(4, np.float32)) for _ in range(200)} == {0, 1}


def test_nucleus_is_renormalized() -> None:
    frequencies = drawn(Sampler(1.0, 0.7, seed=0), logits_of(0.6, 0.3, 0.1))
    assert frequencies == pytest.approx([2 / 3, 1 / 3, 0], abs=0.03)


def test_seed_repeats_and_none_does_not() -> None:
    logits = np.zeros(1000, np.float32)

    def run(sampler: Sampler) -> list[int]:
        return [sampler(logits) for _ in range(20)]

    assert run(Sampler(1.0, seed=7)) == run(Sampler(1.0, seed=7))
    assert run(Sampler(1.0, seed=7)) != run(Sampler(1.0, seed=8))
    assert run(Sampler(1.0)) != run(Sampler(1.0))


def test_large_vocabulary_with_all_but_one_ruled_out() -> None:
    logits = np.full(150_000, -np.inf, np.float32)
    logits[77] = 3
    for sampler in (Sampler(), Sampler(1.0, seed=0), Sampler(0.7, 0.9, seed=0)):
        assert sampler(logits) == 77


def test_logits_are_not_changed() -> None:
    logits = logits_of(0.2, 0.8)
    before = logits.copy()
    Sampler(0.5, 0.9, 0)(logits)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -0.1}, r"temperature -0\.1 .*above 0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"temperature": float("inf")}, "temperature inf"),
        ({"temperature": "warm"}, "temperature 'warm'"),
        ({"temperature": True}, "temperature True"),
        ({"temperature": None}, "temperature None"),
        ({"top_p": 0}, "top_p 0"),
        ({"top_p": 1.01}, r"top_p 1\.01 .*up to 1"),
        ({"top_p": float("nan")}, "top_p nan"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 1.5}, r"seed 1\.5"),
        ({"seed": False}, "seed False"),
    ],
    ids=str,
)
def test_settings_outside_their_range(settings: dict, words: str) -> None:
    with pytest.raises(SamplingInvalid, match=words):
        Sampler(**settings)


def test_numpy_numbers_are_settings() -> None:
    sampler = Sampler(np.float32(0.5), np.float64(0.9), np.int64(3))
    named = "temperature=0.5, top_p=0.9, top_k=0, repetition_penalty=1.0, seed=3"
    assert repr(sampler) == f"Sampler({named})"


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("logits", "words"),
    [
        (np.array([1.0, np.nan, 2.0]), "logit of nan .*overflowed"),
        (np.array([1.0, np.inf]), "logit of inf"),
        (np.array([-np.inf, -np.inf]), "logit of -inf .*not for all"),
        (np.array([np.inf, np.nan]), "logit of nan"),
        (np.zeros((1, 5)), r"shape \(1, 5\)"),
        (np.zeros(0), r"shape \(0,\)"),
    ],
)
def test_logits_that_cannot_be_sampled(temperature: float, logits: np.ndarray, words: str) -> None:
    with pytest.raises(SamplingInvalid, match=words):
        Sampler(temperature)(logits)


SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 0.01, "top_p": 0.001, "top_k": 1},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.3, "top_k": 50, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 10**6},
    {"temperature": 1e-6, "repetition_penalty": 1.05, "top_k": 50},
    {"temperature": 0.8, "repetition_penalty": 1.3, "top_p": 0.6},
    {"temperature": 1.0, "repetition_penalty": 0.8},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_probabilities_are_those_of_transformers(settings: dict[str, float], seed: int) -> None:
    import torch
    from transformers.generation import logits_process

    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, 300).astype(np.float32)
    logits[random.integers(0, 300, 40)] = 2.5  # ties
    seen = random.integers(0, 300, 60).tolist()
    scores = torch.from_numpy(logits)[None]
    # In the order of transformers' generate.
    for name, kind in (
        ("repetition_penalty", logits_process.RepetitionPenaltyLogitsProcessor),
        ("temperature", logits_process.TemperatureLogitsWarper),
        ("top_k", logits_process.TopKLogitsWarper),
        ("top_p", logits_process.TopPLogitsWarper),
    ):
        if name in settings:
            scores = kind(settings[name])(torch.tensor([seen]), scores)
    expected = torch.softmax(scores.double(), dim=-1)[0].numpy()
    sampler = Sampler(**settings)
    sampler.penalize(seen)
    found = sampler.probabilities(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-9)
    assert ((found > 0) == (expected > 0)).all()


def test_a_penalty_changes_the_greedy_choice_too() -> None:
    logits = np.array([-1.0, 2.0, 1.9, -1.1], np.float32)
    greedy = Sampler(repetition_penalty=1.5)
    assert greedy(logits) == 1
    greedy.penalize([1])
    assert greedy(logits) == 2
    greedy.penalize([2, 10**6])
    assert greedy(logits) == 1
    assert logits.tolist() == pytest.approx([-1.0, 2.0, 1.9, -1.1])


@pytest.mark.parametrize(
    "setting",
    [{"top_k": -1}, {"top_k": 1.5}, {"top_k": True}, {"repetition_penalty": 0}]
    + [{"repetition_penalty": value} for value in (-1, float("nan"), "1", None)],
    ids=str,
)
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, object]) -> None:
    with pytest.raises(SamplingInvalid, match=next(iter(setting))):
        Sampler(1.0, **setting)


def test_nothing_is_drawn_where_the_choice_is_greedy() -> None:
    with pytest.raises(SamplingInvalid, match="temperature 0"):
        Sampler().probabilities(np.zeros(3, np.float32))
