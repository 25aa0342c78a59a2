"""Every command that is shown, and what of it runs."""

from __future__ import annotations

from functools import cache

from . import pages, recipes
from .pages import ROOT, Words
from .smallest import ROWS, matching, smallest


@cache
def everything() -> dict[Words, str]:
    """Shown command -> where, the first place of several."""
    found: dict[Words, str] = {}
    for page in pages.PAGES:
        for words in pages.commands(page):
            found.setdefault(words, str(page.relative_to(ROOT)))
    for target in recipes.targets():
        for words in recipes.commands(target):
            found.setdefault(words, f"Makefile, {target}")
    return found


def to_run(program: str) -> list[Words]:
    """What runs of the commands of a program; those that differ in size only run once."""
    shown = (words for words in everything() if words[0] == program and matching(words, ROWS))
    return list(dict.fromkeys(map(smallest, shown)))


def label(words: Words) -> str:
    """The name of a test."""
    return " ".join(words)
