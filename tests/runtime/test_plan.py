"""How many tokens a keep means, and which keeps are refused."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtp.errors import (
    AverageOutOfReach,
    KeepCountMismatch,
    KeepGrows,
    KeepOutOfRange,
    ManifestInvalid,
)
from vtp.runtime.bundle.keep import check_keep, keep_count, parse_keep, parse_keeps
from vtp.runtime.bundle.plan import Drop, MethodRecord, Plan, Stage

totals = st.integers(1, 5000)
ratios = st.floats(0, 1, exclude_min=True)

PLAN = Plan(
    methods=(MethodRecord(name="fastervlm", parameters={}),),
    tokens=256,
    grid=(16, 16),
    layers=4,
    drops=(Drop(layer=0, keep=0.1, score="fastervlm", score_layer=4),),
    positions="compact",
)
"""One drop, in the vision graph."""


def pyramid(**changes: Any) -> Plan:
    """PyramidDrop on a decoder of 32 layers with 576 image tokens."""
    drops = tuple(
        Drop(layer=layer, keep=keep, score="next-attention", score_layer=layer, rounding="floor")
        for layer, keep in ((8, 0.5), (16, 0.25), (24, 0.125))
    )
    plan = Plan(
        methods=(MethodRecord(name="pyramiddrop", parameters={}),),
        tokens=576,
        grid=(24, 24),
        layers=32,
        drops=drops,
        positions="compact-per-stage",
    )
    return dataclasses.replace(plan, **changes)


def one_drop(layer: int, keep: int | float, **drop: Any) -> Plan:
    """A single drop inside a decoder of 32 layers with 576 image tokens."""
    made = Drop(layer=layer, keep=keep, score="attention", score_layer=layer - 1, **drop)
    return pyramid(drops=(made,), positions="original")


@pytest.mark.parametrize(
    ("ratio", "count"), [(1.0, 576), (0.75, 432), (0.5, 288), (0.25, 144), (0.1, 58), (0.05, 29)]
)
def test_the_counts_of_the_paper_for_576_tokens(ratio: float, count: int) -> None:
    assert keep_count(ratio, 576) == count


@given(totals, ratios)
def test_a_ratio_keeps_the_nearest_count_and_at_least_one(total: int, ratio: float) -> None:
    count = keep_count(ratio, total)
    assert type(count) is int
    assert 1 <= count <= total
    # Half a token and the rounding of total * ratio to a float.
    slack = Fraction(1, 2) + Fraction(total) * Fraction(1, 2**52)
    assert count == 1 or abs(Fraction(count) - Fraction(ratio) * total) <= slack


@given(totals, ratios, ratios)
def test_a_higher_ratio_never_keeps_fewer(total: int, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert keep_count(low, total) <= keep_count(high, total)


@given(totals, st.data())
def test_a_count_is_kept_as_it_is(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total))
    assert keep_count(count, total) == count


@given(totals)
def test_the_whole_ratio_keeps_all_and_the_count_one_keeps_one(total: int) -> None:
    assert keep_count(1.0, total) == total
    assert keep_count(1, total) == 1


def test_half_a_token_is_rounded_to_the_even_count() -> None:
    assert keep_count(0.5, 5) == 2
    assert keep_count(0.5, 7) == 4


@given(
    totals,
    st.one_of(
        st.integers(max_value=0),
        st.floats(max_value=0),
        st.floats(min_value=1, exclude_min=True),
        st.just(math.nan),
        st.booleans(),
        st.none(),
        st.text(),
        st.binary(),
        st.lists(st.integers()),
    ),
)
def test_everything_else_is_refused(total: int, keep: Any) -> None:
    with pytest.raises(KeepOutOfRange, match="out of range"):
        keep_count(keep, total)
    with pytest.raises(ValueError, match="out of range"):
        check_keep(keep)


@given(totals, st.integers(1))
def test_a_count_above_all_tokens_is_refused(total: int, more: int) -> None:
    with pytest.raises(KeepOutOfRange, match=rf"1\.\.{total}"):
        keep_count(total + more, total)


@pytest.mark.parametrize(
    ("text", "keep"),
    [("0.1", 0.1), ("1", 1), ("1.0", 1.0), ("58", 58), (" 58 ", 58), ("+3", 3), ("1e-2", 0.01)],
)
def test_a_point_makes_a_ratio(text: str, keep: int | float) -> None:
    parsed = parse_keep(text)
    assert parsed == keep
    assert type(parsed) is type(keep)


@given(st.one_of(ratios.map(repr), st.integers(1, 10**6).map(str)))
def test_what_is_typed_is_read_back(text: str) -> None:
    assert repr(parse_keep(text)) == text


@given(st.text())
def test_any_text_is_a_keep_or_refused(text: str) -> None:
    try:
        keep = parse_keep(text)
    except KeepOutOfRange:
        return
    check_keep(keep)


def test_the_plan_takes_its_default_where_none_is_given() -> None:
    assert PLAN.counts(None, 1) == (26,)
    assert PLAN.counts(0.5, 1) == (128,)
    assert PLAN.counts(7, 2) == (14,)
    assert PLAN.tile_keep(7, 256) == 7


def test_a_plan_without_pruning_keeps_all_or_says_why_not() -> None:
    plan = dataclasses.replace(PLAN, methods=(), drops=())
    assert plan.name == "none"
    for keep in (None, 1.0, 256):
        assert plan.counts(keep, 1) == ()
        assert plan.tokens_of_stages((), 2) == (512,)
    for keep in (0.5, 255):
        with pytest.raises(KeepOutOfRange, match="so all 256 image tokens are kept"):
            plan.counts(keep, 1)


def test_stages_lie_between_the_drops() -> None:
    assert PLAN.stages == (Stage(first=0, stop=4),)
    assert [(s.first, s.stop) for s in pyramid().stages] == [(0, 8), (8, 16), (16, 24), (24, 32)]
    vision = dataclasses.replace(PLAN.drops[0], keep=0.5)
    both = pyramid(drops=(vision, *pyramid().drops[1:]))
    assert [(s.first, s.stop) for s in both.stages] == [(0, 16), (16, 24), (24, 32)]


def test_pyramiddrop_has_the_published_counts_and_average() -> None:
    plan = pyramid()
    counts = plan.counts(None, 1)
    assert plan.tokens_of_stages(counts, 1) == (576, 288, 144, 72)
    assert plan.average(counts, 1) == 270


@pytest.mark.parametrize(("keep", "average"), [(288, 306), (144, 171), (58, 90.375), (29, 63.1875)])
def test_fastv_has_the_published_averages(keep: int, average: float) -> None:
    plan = one_drop(2, keep)
    assert plan.average(plan.counts(None, 1), 1) == average


@pytest.mark.parametrize(
    ("kept", "stages"),
    [
        ((300, 200, 110), (576, 309, 204, 113)),
        ((303, 110, 36), (576, 312, 117, 39)),
        ((66, 30, 17), (576, 82, 32, 18)),
    ],
)
def test_recycled_tokens_are_counted(kept: tuple[int, ...], stages: tuple[int, ...]) -> None:
    # The counts that the authors' code reaches, merged tokens included.
    drops = tuple(
        Drop(layer=layer, keep=keep, score="raters", score_layer=2, budget="all", recycle=0.3)
        for layer, keep in zip((3, 7, 16), kept, strict=True)
    )
    plan = pyramid(drops=drops)
    assert plan.tokens_of_stages(plan.counts(None, 1), 1) == stages


def test_rounding_is_the_methods() -> None:
    assert keep_count(0.1, 576, "half-even") == 58
    assert keep_count(0.1, 576, "floor") == 57
    # 0.29 * 100 is a little below 29 in binary.
    assert keep_count(0.29, 100, "floor") == 29


def test_a_budget_over_all_images_rounds_once() -> None:
    each, together = (one_drop(2, 0.1, budget=budget) for budget in ("image", "all"))
    assert each.counts(None, 3) == (58 * 3,)
    assert together.counts(None, 3) == (173,)
    # A count is one of each image, whatever the budget.
    assert together.counts(10, 3) == (30,)


@pytest.mark.parametrize("keep", [0.5, (0.5, 0.25), (0.5, 0.25, 0.1, 0.1), [0.5]])
def test_another_number_of_keeps_than_drops(keep: Any) -> None:
    with pytest.raises(KeepCountMismatch, match=r"3 place\(s\) \(layer 8, layer 16, layer 24\)"):
        pyramid().counts(keep, 1)


def test_one_point_zero_drops_nothing_anywhere() -> None:
    assert pyramid().counts(1.0, 1) == (576, 576, 576)
    with pytest.raises(KeepCountMismatch):
        pyramid().counts(1, 1)


def test_keeps_that_grow() -> None:
    with pytest.raises(KeepGrows, match=r"0\.25, 0\.5, 0\.1 grow"):
        pyramid().counts((0.25, 0.5, 0.1), 1)
    assert pyramid().counts((0.25, 0.25, 0.25), 1) == (144, 144, 144)


@given(st.floats(0.26, 1))
def test_an_average_is_reached_from_below(average: float) -> None:
    plan = pyramid()
    reached = plan.average(plan.counts(plan.keeps_for_average(average), 1), 1)
    assert reached <= average * 576 + 1e-9
    # Every stage rounds down to a whole token.
    assert reached > average * 576 - 4


def test_an_average_out_of_reach_says_what_is_in_reach() -> None:
    with pytest.raises(AverageOutOfReach, match=r"at least 0\.064"):
        one_drop(2, 0.5).keeps_for_average(0.05)
    (keep,) = one_drop(2, 0.5).keeps_for_average(0.25)
    assert keep == (0.25 * 576 * 32 - 2 * 576) // 30


def test_an_average_of_one_drop_in_the_vision_graph_is_its_keep() -> None:
    assert PLAN.keeps_for_average(0.1) == (25,)  # at most 25.6
    assert PLAN.keeps_for_average(26) == (26,)


def test_numbers_have_gaps_where_drops_keep_them() -> None:
    assert PLAN.gapless(0)
    original = dataclasses.replace(PLAN, positions="original")
    assert not original.gapless(0)
    assert [pyramid().gapless(stage) for stage in range(4)] == [True] * 4
    kept = pyramid(positions="original")
    assert [kept.gapless(stage) for stage in range(4)] == [True, False, False, False]


@given(st.lists(ratios.map(lambda r: max(r, 1e-3)), min_size=1, max_size=4))
def test_keeps_as_typed(keeps: list[float]) -> None:
    parsed = parse_keeps(",".join(map(repr, keeps)))
    assert parsed == (keeps[0] if len(keeps) == 1 else tuple(keeps))


@pytest.mark.parametrize(
    "changes",
    [
        {"grid": (16, 15)},
        {"tokens": 0},
        {"positions": "scattered"},
        {"layers": 24},
        {"drops": pyramid().drops[::-1]},
        {"drops": (*PLAN.drops, *PLAN.drops)},
    ],
)
def test_a_plan_that_contradicts_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestInvalid, match="plan"):
        pyramid(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"keep": 0.0},
        {"keep": 577},
        {"layer": -1},
        {"rounding": "up"},
        {"budget": "half"},
        {"recycle": 0.0},
        {"layer": 0, "budget": "all"},
    ],
)
def test_a_drop_that_cannot_be(changes: dict[str, Any]) -> None:
    given = {"layer": 2, "keep": 0.5, "score": "attention", "score_layer": 1, **changes}
    with pytest.raises(ManifestInvalid, match="plan"):
        pyramid(drops=(Drop(**given),))


def test_a_budget_for_each_image_cannot_follow_one_over_all() -> None:
    first, second, _ = pyramid().drops
    drops = (dataclasses.replace(first, budget="all"), second)
    with pytest.raises(ManifestInvalid, match="budget"):
        pyramid(drops=drops)
