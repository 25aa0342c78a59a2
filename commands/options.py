"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..runtime.bundle.keep import Keep, Keeps, parse_keep, parse_keeps


class KeepsType(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A ratio such as 0.1, or a count such as 58; a comma separates those of several drops."""

    name = "keep"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Keeps:
        if not isinstance(value, str):
            kept: Keeps = value
            return kept
        # An Error with exit 1, as for every value that does not fit, rather than a usage error.
        return parse_keeps(value)


class KeepType(KeepsType):
    """One ratio or count."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Keep:
        return parse_keep(value) if isinstance(value, str) else value


bundle_argument = click.argument(
    "bundle", metavar="DIR", type=click.Path(path_type=Path, file_okay=True)
)

KEEP_HELP = (
    "a ratio above 0 and up to 1.0, or a count (1 is one token). A plan that drops tokens at "
    "several places takes one keep for each, separated by commas"
)


def only_one(ctx: click.Context, param: click.Parameter, values: tuple[Any, ...]) -> Any:
    """The one value of an option that a command takes once; click alone would take the last.

    Raises:
        UsageError: the option was repeated.
    """
    if len(values) > 1:
        raise click.UsageError(
            f"{param.opts[0]} was given {len(values)} times, but {ctx.command_path} takes it once",
            ctx,
        )
    return values[0] if values else None


def keep_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--keep`` of a command that takes one; ``what`` says what for."""
    return click.option(
        "--keep",
        multiple=True,
        callback=only_one,
        type=KeepsType(),
        metavar="K",
        help=what,
    )


def keep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--keep`` and ``--average`` of a command that takes one of them."""
    function = click.option(
        "--average",
        multiple=True,
        callback=only_one,
        type=KeepType(),
        metavar="A",
        help="Image tokens that a language layer reads on average, as a ratio or a count; replaces "
        "--keep.",
    )(function)
    return keep_option(f"Image tokens to keep: {KEEP_HELP}.")(function)


def keeps_options(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--keep`` and ``--average`` of a command that tries several of them."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        function = click.option(
            "--average",
            "averages",
            multiple=True,
            type=KeepType(),
            metavar="A",
            help="Average over the language layers to try; repeat the option to try several.",
        )(function)
        return click.option(
            "--keep",
            "keeps",
            multiple=True,
            type=KeepsType(),
            metavar="K",
            help=f"Keep to try: {KEEP_HELP}. Repeat the option to try several keeps.  "
            f"[default: {default}]",
        )(function)

    return add


format_option = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "md"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)


def engine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--engine`` and ``--threads``."""
    function = click.option(
        "--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all cores]"
    )(function)
    return click.option(
        "--engine",
        default="auto",
        show_default=True,
        metavar="E",
        help="Engine that runs the graphs; 'vtp list engines' shows all. "
        "'auto' takes the first that can run the bundle here.",
    )(function)


variant_option = click.option(
    "--variant",
    metavar="NAME",
    help="Variant of 'vtp build' to use, if several fit.  [default: the newest]",
)

guide_option = click.option(
    "--guide",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Bundle of a smaller model ('--method guide') that ranks the image tokens.",
)


def media_options(without: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--image`` and ``--video``, repeatable; ``without`` says what is used without them."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        several: dict[str, Any] = {
            "multiple": True,
            "type": click.Path(path_type=Path),
            "metavar": "F",
        }
        function = click.option(
            "--video",
            "videos",
            help="Video to ask about; videos come after the images. Repeat the option for several.",
            **several,
        )(function)
        return click.option(
            "--image",
            "images",
            help=f"Image to ask about. Repeat the option for several.{without}",
            **several,
        )(function)

    return add
