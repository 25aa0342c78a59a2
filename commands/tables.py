"""Rows as a table for people, or as JSON, CSV or Markdown for what comes next."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def show(sections: Mapping[str, Sequence[Row]], form: str) -> None:
    """Print sections of rows; the keys of a section's first row are its columns. A section without
    rows is left out, but for JSON.

    Args:
        sections: title -> rows.
        form: ``table``, ``json``, ``csv`` or ``md``.
    """
    if form == "json":
        print(json.dumps(sections, indent=1, default=str))
        return
    filled = {title: rows for title, rows in sections.items() if rows}
    for number, (title, rows) in enumerate(filled.items()):
        if number:
            print()
        if form == "csv":
            _csv(title, rows)
        elif form == "md":
            _markdown(title, rows)
        else:
            _table(title, rows)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return "" if value is None else str(value)


def _csv(title: str, rows: Sequence[Row]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    columns = list(rows[0]) if rows else []
    writer.writerow(["section", *columns])
    for row in rows:
        writer.writerow([title, *(_text(row.get(column)) for column in columns)])


def _markdown(title: str, rows: Sequence[Row]) -> None:
    print(f"**{title}**\n")
    columns = list(rows[0]) if rows else []
    print("| " + " | ".join(columns) + " |")
    print("|" + " --- |" * len(columns))
    for row in rows:
        cells = (_text(row.get(column)).replace("|", "\\|") for column in columns)
        print("| " + " | ".join(cells) + " |")


def _table(title: str, rows: Sequence[Row]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in rows[0] if rows else ():
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_text(row.get(column))) for column in rows[0]))
    # In a pipe or a file there is no width to fold to.
    console = Console(width=None if sys.stdout.isatty() else 1000)
    console.print(table)
