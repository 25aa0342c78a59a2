"""A click group that imports a command when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


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
        module, _, attribute = self._table[cmd_name].partition(":")
        found: click.Command = getattr(import_module(f".{module}", self._package), attribute)
        return found
