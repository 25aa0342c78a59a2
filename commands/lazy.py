"""A click group that imports a command when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from ..registry import load_row


class LazyGroup(click.Group):
    """A group over a table of commands.

    Args:
        table: name -> ``module:attribute``.
        package: that the modules are relative to.
        arguments: those of ``click.Group``.
    """

    def __init__(self, *, table: Mapping[str, str], package: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._table = table
        self._package = package

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._table:
            return None
        found: click.Command = load_row(self._table[cmd_name], self._package)
        return found
