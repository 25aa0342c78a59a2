"""Fills the tables of graphs in bundle.md from the contract: ``python docs/make_graphs.py``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vtp.runtime.bundle.contract import CACHE_TYPE, KINDS, PIXEL_VALUES, GraphKind, Tensor

PAGE = Path(__file__).resolve().parent / "bundle.md"
_BEGIN, _END = "<!-- graphs -->\n", "<!-- end of graphs -->"
_HEAD = "| | tensor | shape | type | present |\n| --- | --- | --- | --- | --- |\n"


def tables() -> str:
    """One table a graph."""
    return "".join(_table(kind) for kind in KINDS)


def _table(kind: GraphKind) -> str:
    rows = [*_rows("input", kind.inputs), *_rows("output", kind.outputs)]
    if kind.name in ("vision", "video"):
        image = f"`{PIXEL_VALUES}` and what the family declares"
        rows.insert(0, f"| input | {image} | of the family | | always |\n")
    about = f"{kind.about[0].upper()}{kind.about[1:]}. In a bundle: {kind.when}."
    return f"**`{kind.name}`** {about}\n\n{_HEAD}{''.join(rows)}\n"


def _rows(side: str, tensors: Iterable[Tensor]) -> list[str]:
    rows = []
    for tensor in tensors:
        shape = f"`({', '.join(map(str, tensor.dims))})`"
        if tensor.appended:
            shape += f", in `trt10` `({', '.join(map(str, tensor.appended))})`"
        present = tensor.when or "always"
        if tensor.appended == ():
            present = "not in `trt10`"
        kind = "that of the weights" if tensor.dtype == CACHE_TYPE else tensor.dtype
        rows.append(f"| {side} | `{tensor.name}` | {shape} | {kind} | {present} |\n")
    return rows


def filled(text: str) -> str:
    """The page with the tables as they are now."""
    pattern = re.escape(_BEGIN) + ".*?" + re.escape(_END)
    return re.sub(pattern, lambda _: _BEGIN + "\n" + tables() + _END, text, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
