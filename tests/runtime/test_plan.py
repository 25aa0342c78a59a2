"""How many tokens a keep means, and which keeps are refused."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtp.errors import KeepOutOfRange, ManifestInvalid
from vtp.runtime.plan import Plan, Stage, check_keep, keep_count, parse_keep

totals = st.integers(1, 5000)
ratios = st.floats(0, 1, exclude_min=True)

PLAN = Plan(
    method="fastervlm",
    parameters={},
    prunes=True,
    score_layer=4,
    tokens=256,
    grid=(16, 16),
    keep=0.1,
    positions="compact",
    stages=(Stage(first=0, stop=4),),
)


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
    assert PLAN.count(None) == 26
    assert PLAN.count(0.5) == 128
    assert PLAN.count(7) == 7


def test_a_plan_without_pruning_keeps_all_or_says_why_not() -> None:
    plan = dataclasses.replace(PLAN, prunes=False, method="none", keep=1.0)
    assert plan.count(None) == plan.count(1.0) == plan.count(256) == 256
    for keep in (0.5, 255):
        with pytest.raises(KeepOutOfRange, match="without pruning all 256 image tokens"):
            plan.count(keep)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grid", (16, 15)),
        ("tokens", 0),
        ("keep", 0.0),
        ("keep", 257),
        ("positions", "scattered"),
        ("stages", ()),
    ],
)
def test_a_plan_that_contradicts_itself(field: str, value: Any) -> None:
    with pytest.raises(ManifestInvalid, match="plan"):
        dataclasses.replace(PLAN, **{field: value})
