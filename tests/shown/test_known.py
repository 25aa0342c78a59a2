"""Every command that README, docs and Makefile show is known to the table, and nothing else is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import click
import pytest

from vtp.cli import COMMANDS
from vtp.cli import command as top_command

from . import pages, recipes
from .pages import PAGES, ROOT
from .shown import everything
from .smallest import BUNDLES, ELSEWHERE, ROWS, matching


def test_every_command_is_known() -> None:
    unknown = [
        f"{' '.join(words)} ({place})"
        for words, place in everything().items()
        if not (matching(words, ROWS) or matching(words, ELSEWHERE))
    ]
    assert unknown == [], "add a row to tests/shown/smallest.py"


def test_every_row_is_shown() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed, so the Makefile's commands are not known")
    shown = list(everything())
    used = {key for words in shown for table in (ROWS, ELSEWHERE) for key in matching(words, table)}
    assert used == {*ROWS, *ELSEWHERE}
    named = {word.rpartition("=")[2] for words in shown for word in words}
    assert set(BUNDLES) <= named


def test_what_runs_elsewhere_is_there() -> None:
    for place in re.findall(r"tests/[\w/]+\.py", " ".join([*ELSEWHERE.values()])):
        assert (ROOT / place).is_file()
    for place in re.findall(r"tests/[\w/]+\.py", " ".join(row.why for row in ROWS.values())):
        assert (ROOT / place).is_file()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_targets_of_make_exist(page: Path) -> None:
    shown = [" ".join(words) for words in pages.commands(page)] + pages.sentences(page)
    named = {found[1] for code in shown if (found := re.match(r"make ([\w-]+)", code))}
    assert named <= set(recipes.targets())


def test_the_makefile_says_what_can_be_made() -> None:
    head, _, _ = (ROOT / "Makefile").read_text().partition("\n\n")
    told = set(re.findall(r"^# make ([\w-]+)", head, re.MULTILINE))
    assert {"demo", "test"} <= told <= set(recipes.targets())


def named(words: list[str]) -> list[click.Command]:
    """The commands behind ``vtp``: one, those of a group that are named, or the group."""
    assert words[0] in COMMANDS, words
    found = top_command(words[0])
    if not isinstance(found, click.Group) or len(words) == 1:
        return [found]
    context = click.Context(found)
    inner = [found.get_command(context, name) for name in words[1].split("|")]
    assert None not in inner, words
    return [one for one in inner if one is not None]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_options_in_sentences_exist(page: Path) -> None:
    """Of a command that a sentence names in part, such as ``vtp run --average``."""
    for code in pages.sentences(page):
        program, *words = code.split()
        if program == "vtp" and words and words[0] != "...":
            options = [option for one in named(words) for option in one.params]
            known = {opt for option in options for opt in (*option.opts, *option.secondary_opts)}
            assert set(re.findall(r"--[a-z-]+", code)) <= known, code
