"""HTML tables and legends."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: Sequence[int] = ()) -> str:
    """A table; the first column names its row.

    Args:
        head: column titles.
        rows: cells as text.
        words: columns of words, aligned to the left.
    """

    def cell(kind: str, column: int, text: str, scope: str = "") -> str:
        style = ' class="words"' if column in words else ""
        return f"<{kind}{scope}{style}>{escape(text)}</{kind}>"

    titles = "".join(cell("th", n, text, ' scope="col"') for n, text in enumerate(head))
    lines = []
    for row in rows:
        cells = [cell("th", 0, row[0], ' scope="row"')]
        cells += [cell("td", n, text) for n, text in enumerate(row) if n]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{titles}</tr></thead>\n'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def legend(entries: Sequence[tuple[str, str]], mark: str | None = None) -> str:
    """Colours with what they stand for, and the dashed line."""
    found = [
        f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for name, colour in entries
    ]
    if mark is not None:
        found.append(f'<li><i class="dash"></i>{escape(mark)}</li>')
    return f'<ul class="legend">{"".join(found)}</ul>'


def folded(title: str, content: str) -> str:
    """Content that opens on a click."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
