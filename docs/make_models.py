"""Fills the table of published repositories in models.md: ``python docs/make_models.py``."""

from __future__ import annotations

import re
from pathlib import Path

from vtp.export.source.presets import PRESETS
from vtp.samples.hub.table import REPOSITORIES

PAGE = Path(__file__).resolve().parent / "models.md"
_BEGIN, _END = "<!-- repositories -->\n", "<!-- end of repositories -->"
_HEAD = (
    "| repository | preset | source of the layout | exported with random weights | "
    "run with real weights |\n| --- | --- | --- | --- | --- |\n"
)


def table() -> str:
    """One row a repository."""
    presets = {preset.source: name for name, preset in PRESETS.items()}
    rows = []
    for name, repository in REPOSITORIES.items():
        preset = f"`{presets[name]}`" if name in presets else ""
        rows.append(f"| `{name}` | {preset} | {repository.read} | yes | not yet |\n")
    return _HEAD + "".join(rows)


def filled(text: str) -> str:
    """The page with the table as it is now."""
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    return re.sub(pattern, lambda _: _BEGIN + table() + _END, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
