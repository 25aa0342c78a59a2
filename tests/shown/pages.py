"""The commands that the pages show: in fenced blocks, in indented blocks, and inside sentences."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("samples/*.md")])

Words = tuple[str, ...]

# What stands in indented blocks and is no command: output, formulas, a line of a file.
_OTHER = ("vision takes", "decode takes", "floor of", "+ prompt", "ceiling of", '"vtc-cls":')
PYTHON = "pipeline.generate("
"""How a line of Python in an indented block begins; it is run where the others are, as Python."""

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?: {4}.*\n)+)")
_EXAMPLE = re.compile(r"^  Example:\n((?: {4}.*\n)+)", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+)`")


def lines(page: Path) -> list[str]:
    """What a page shows to be typed, one line each."""
    text = page.read_text(encoding="utf-8")
    blocks = [body for kind, body in _FENCE.findall(text) if kind == "sh"]
    for kind, body in _FENCE.findall(text):
        blocks += _EXAMPLE.findall(body) if kind == "text" else []
    blocks += _INDENTED.findall(_FENCE.sub("", text))
    found = [line for block in blocks for line in _unfolded(block)]
    return [line for line in found if not line.startswith(_OTHER)]


def commands(page: Path) -> list[Words]:
    """``lines`` that a shell takes, in words; and commands in sentences that are whole.

    Where the output is sent to a file, that is left out.
    """
    whole = (code for code in sentences(page) if is_whole(code))
    shown = (line for line in lines(page) if not line.startswith(PYTHON))
    return [tuple(shlex.split(line.partition(" > ")[0])) for line in (*shown, *whole)]


def sentences(page: Path) -> list[str]:
    """Code inside the sentences of a page."""
    text = _INDENTED.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))
    return _INLINE.findall(text)


def is_whole(code: str) -> bool:
    """Whether code in a sentence can be typed as it is: ``vtp list``, and what names an output."""
    if re.search(r"\.\.\.|\b[A-Z]{2,}\b", code):
        return False
    return code.startswith("vtp list") or (code.startswith("vtp ") and "out/" in code)


def _unfolded(block: str) -> list[str]:
    """Lines without what is remarked behind them; a line that goes on in the next is one."""
    bare = (re.sub(r"\s+#\s.*", "", line) for line in block.replace("\\\n", " ").splitlines())
    return [" ".join(line.split()) for line in bare if line.strip()]
