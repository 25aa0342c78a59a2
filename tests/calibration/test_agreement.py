"""When answers are the same."""

from __future__ import annotations

import pytest

from vtp.calibration.agreement import is_right, same_text, token_agreement


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ("Red", " red ", True),
        ("top left", "Top  LEFT\n", True),
        ("4 7", "47", True),
        ("red.", "red", False),
        ("", "red", False),
    ],
)
def test_texts(given: str, wanted: str, same: bool) -> None:
    assert same_text(given, wanted) is same


def test_any_of_several_answers_is_right() -> None:
    assert is_right("Crimson", ("red", "crimson"))
    assert not is_right("blue", ("red", "crimson"))
    assert not is_right("", ())


@pytest.mark.parametrize(
    ("given", "wanted", "share"),
    [
        ([1, 2, 3, 4], [1, 2, 3, 4], 1.0),
        ([1, 2, 9, 4], [1, 2, 3, 4], 0.75),
        ([1, 2], [1, 2, 3, 4], 0.5),
        ([1, 2, 3, 4], [1, 2], 0.5),
        ([9, 1, 2, 3], [1, 2, 3], 0.0),
        ([], [1], 0.0),
        ([], [], 1.0),
    ],
)
def test_tokens(given: list[int], wanted: list[int], share: float) -> None:
    assert token_agreement(given, wanted) == share
