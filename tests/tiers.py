"""Which tests ``make test`` leaves to ``make test-all``, and why nothing is unguarded without them.

``make test`` is what a change needs: it takes about ten minutes on two cores. A pattern is matched
against the whole name of a test; ``KEPT`` wins over ``EXTENDED``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

EXTENDED: dict[str, str] = {}
"""Pattern -> what stands for these tests in the default tier."""

KEPT: tuple[str, ...] = ()
"""Of those, the ones that stay."""


def is_extended(name: str) -> bool:
    """Whether a test is left to ``make test-all``."""
    return _matches(name, EXTENDED) and not _matches(name, KEPT)


def unmatched(names: list[str]) -> list[str]:
    """Patterns that match none of the tests."""
    return [
        pattern
        for pattern in (*EXTENDED, *KEPT)
        if not any(_matches(name, (pattern,)) for name in names)
    ]


def _matches(name: str, patterns: object) -> bool:
    # Brackets stand in names of tests, and are no sets of letters.
    plain = name.replace("[", "<").replace("]", ">")
    return any(fnmatchcase(plain, str(p).replace("[", "<").replace("]", ">")) for p in patterns)  # type: ignore[attr-defined]
