"""The commands in the recipes of the Makefile, as make and the shell expand them.

make runs, in a folder of its own, with a script in the place of every program that it calls, which
writes down how it was called: loops and variables need no interpreter here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from .pages import ROOT, Words

_PROGRAMS = ("python", "vtp", "ruff", "mypy")
_SCRIPT = """\
#!/bin/sh
{ printf '%s' "${0##*/}"; printf '\\t%s' "$@"; echo; } >> "$CALLS"
if [ "$1 $2" = "-m venv" ]; then mkdir -p "$3" && cp -r "$PROGRAMS" "$3/bin"; fi
"""


def targets() -> list[str]:
    """What can be made."""
    (line,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return line.split()


@cache
def commands(target: str) -> list[Words]:
    """What ``make TARGET`` runs in a fresh clone, in words; nothing where there is no make."""
    make = shutil.which("make")
    if make is None:
        return []
    with TemporaryDirectory() as name:
        clone = Path(name)
        programs = clone / "programs"
        programs.mkdir()
        for program in (*_PROGRAMS, "python3"):
            (programs / program).write_text(_SCRIPT)
            (programs / program).chmod(0o755)
        shutil.copy(ROOT / "Makefile", clone)
        for needed in ("pyproject.toml", "constraints.txt"):
            (clone / needed).touch()
        calls = clone / "calls"
        calls.touch()
        outside = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
        env = {**outside, "CALLS": str(calls), "PROGRAMS": str(programs)}
        arguments = [f"PYTHON={programs / 'python3'}", "VENV=.venv", "OUT=out", "TORCH_INDEX="]
        subprocess.run(
            [make, "-s", target, *arguments], cwd=clone, env=env, check=True, capture_output=True
        )
        return [tuple(line.split("\t")) for line in calls.read_text().splitlines()]
