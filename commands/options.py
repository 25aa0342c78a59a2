"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..runtime.plan import Keep, parse_keep


class KeepType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A ratio such as 0.1, or a count such as 58."""

    name = "keep"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Keep:
        if not isinstance(value, str):
            kept: Keep = value
            return kept
        # An Error with exit 1, as for every value that does not fit, rather than a usage error.
        return parse_keep(value)


bundle_argument = click.argument(
    "bundle", metavar="DIR", type=click.Path(path_type=Path, file_okay=True)
)

keep_option = click.option(
    "--keep",
    type=KeepType(),
    metavar="K",
    help="Image tokens to keep: a ratio above 0 and up to 1.0, or a count (1 is one token).",
)

format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "md"]),
    default="table",
    show_default=True,
    help="Form of the output.",
)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--engine`` and ``--threads``."""
    function = click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads; all cores if not given."
    )(function)
    return click.option(
        "--engine",
        default="auto",
        show_default=True,
        metavar="E",
        help="What runs the graphs; 'vtp list engines' shows them.",
    )(function)
