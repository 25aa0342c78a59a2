"""When two answers are the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def same_text(given: str, wanted: str) -> bool:
    """Whether two answers are equal, white space and case aside."""
    return _plain(given) == _plain(wanted)


def is_right(given: str, answers: Iterable[str]) -> bool:
    """Whether an answer is one of those that are right."""
    return any(same_text(given, answer) for answer in answers)


def token_agreement(given: Sequence[int], wanted: Sequence[int]) -> float:
    """Share of places, of the longer answer, at which both have the same token.

    Both are counted from their first token on and with the token that ends them: 1.0 means that
    they are one answer, and a token put in between counts against all that follow.
    """
    longer = max(len(given), len(wanted))
    same = sum(a == b for a, b in zip(given, wanted, strict=False))
    return same / longer if longer else 1.0


def _plain(text: str) -> str:
    return "".join(text.lower().split())
