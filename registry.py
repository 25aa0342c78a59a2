"""Tables of names: each row is a class or object in a file of its own, imported when it is asked
for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def load_row(row: str, package: str) -> Any:
    """What a row stands for.

    Args:
        row: ``module:attribute``.
        package: full name of the folder that the module is in.
    """
    module, _, attribute = row.partition(":")
    return getattr(import_module(f".{module}", package), attribute)
