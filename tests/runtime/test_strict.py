"""The strict reader: JSON to dataclasses and back, and everything that does not fit."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtp.errors import ManifestInvalid
from vtp.runtime.files.strict import read, write


@dataclass(frozen=True, kw_only=True)
class Inner:
    word: str
    pair: tuple[int, str] = (0, "")


@dataclass(frozen=True, kw_only=True)
class Outer:
    whole: int
    real: float
    flag: bool
    either: int | float
    maybe: str | None
    several: tuple[Inner, ...]
    table: dict[str, int]
    anything: Any = None
    more: tuple[float, ...] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Picky:
    even: int

    def __post_init__(self) -> None:
        if self.even % 2:
            raise ValueError(f"{self.even} is odd")


@dataclass(frozen=True, kw_only=True)
class OwnReader:
    value: str

    @classmethod
    def from_dict(cls, data: object, where: str) -> OwnReader:
        return cls(value=f"{where} said {data}")


@dataclass(frozen=True, kw_only=True)
class Holder:
    own: OwnReader
    picky: Picky | None = None


DATA: dict[str, Any] = {
    "whole": 3,
    "real": 0.5,
    "flag": True,
    "either": 4,
    "maybe": None,
    "several": [{"word": "a", "pair": [1, "b"]}],
    "table": {"x": 1},
}

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
outers = st.builds(
    Outer,
    whole=st.integers(),
    real=finite,
    flag=st.booleans(),
    either=st.integers() | finite,
    maybe=st.none() | st.text(),
    several=st.lists(
        st.builds(Inner, word=st.text(), pair=st.tuples(st.integers(), st.text()))
    ).map(tuple),
    table=st.dictionaries(st.text(), st.integers()),
    anything=st.none() | st.text() | st.lists(st.integers()),
    more=st.lists(finite).map(tuple),
)


@given(outers)
def test_what_is_written_is_read_back(value: Outer) -> None:
    assert read(Outer, json.loads(json.dumps(write(value))), "here") == value


def test_values_come_as_the_types_that_are_declared() -> None:
    value = read(Outer, DATA | {"real": 2, "either": 2, "more": [1]}, "here")
    assert type(value.real) is float
    assert type(value.either) is int
    assert type(value.more[0]) is float
    assert value.several == (Inner(word="a", pair=(1, "b")),)
    assert read(Outer, DATA | {"either": 2.0}, "here").either == 2.0


@pytest.mark.parametrize("key", DATA)
def test_a_missing_entry_is_named(key: str) -> None:
    data = {name: value for name, value in DATA.items() if name != key}
    with pytest.raises(ManifestInvalid, match=f"at here: entry '{key}' is missing"):
        read(Outer, data, "here")


def test_an_unknown_entry_is_named() -> None:
    with pytest.raises(ManifestInvalid, match="at here: unknown entry 'colour'"):
        read(Outer, DATA | {"colour": 1}, "here")
    with pytest.raises(ManifestInvalid, match=r"at here.several\[0\]: unknown entry 'x'"):
        read(Outer, DATA | {"several": [{"word": "a", "x": 1}]}, "here")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("whole", True, "here.whole: int is needed, not bool"),
        ("whole", 1.0, "here.whole: int is needed, not float"),
        ("whole", "1", "here.whole: int is needed, not str"),
        ("whole", None, "here.whole: int is needed, not null"),
        ("real", True, "here.real: float is needed, not bool"),
        ("real", math.nan, "here.real: a finite number is needed"),
        ("real", math.inf, "here.real: a finite number is needed"),
        ("real", 10**400, "here.real: a finite number is needed"),
        ("either", math.nan, "here.either: a finite number is needed"),
        ("either", "1", "here.either: "),
        ("flag", 1, "here.flag: bool is needed, not int"),
        ("maybe", 1, "here.maybe: str is needed, not int"),
        ("several", {}, "here.several: a list is needed, not dict"),
        ("several", [1], "here.several[0]: an object is needed, not int"),
        ("several", [{"word": "a", "pair": [1]}], "here.several[0].pair: 2 items are needed"),
        ("several", [{"word": "a", "pair": "ab"}], "here.several[0].pair: a list is needed"),
        ("table", [], "here.table: an object is needed, not list"),
        ("table", {"x": "y"}, "here.table.x: int is needed, not str"),
    ],
)
def test_an_entry_of_another_type_is_named(key: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        read(Outer, DATA | {key: value}, "here")
    assert message in str(caught.value)


@given(st.sampled_from([*DATA, "anything", "more"]), json_values)
def test_any_value_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    try:
        result = read(Outer, DATA | {key: value}, "here")
    except ManifestInvalid:
        return
    assert write(result)[key] == value or value != value


@given(json_values)
def test_any_json_at_all_is_read_or_refused(data: Any) -> None:
    with pytest.raises(ManifestInvalid, match="here"):
        read(Outer, data, "here")


def test_checks_of_a_class_become_errors_of_the_manifest() -> None:
    assert read(Picky, {"even": 2}, "here").even == 2
    with pytest.raises(ManifestInvalid, match="at here: 3 is odd"):
        read(Picky, {"even": 3}, "here")
    with pytest.raises(ManifestInvalid, match=r"at here\.picky: 3 is odd"):
        read(Holder, {"own": 1, "picky": {"even": 3}}, "here")


def test_a_class_with_a_reader_of_its_own_is_asked() -> None:
    assert read(Holder, {"own": 7}, "here").own.value == "here.own said 7"
