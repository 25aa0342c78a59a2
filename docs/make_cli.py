"""Writes `cli.md` from the help of the commands: `python docs/make_cli.py [FILE]`, - prints it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vtp.cli import COMMANDS, command, group

_WIDTH = 100
_HEAD = """\
# The command line

Commands write data to stdout, and progress and errors to stderr. An error is one line that begins
with `Error:`, with exit status 1; wrong usage exits with status 2. `vtp-export` is another name of
`vtp export`.

<!-- Made by docs/make_cli.py from the help of the commands. -->
"""


def _help(name: str, shown: click.Command) -> str:
    context = click.Context(
        shown,
        info_name=name,
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )
    return f"## {name}\n\n```text\n{shown.get_help(context)}\n```\n"


def document() -> str:
    """The whole file."""
    parts = [_help("vtp", group())]
    for name in COMMANDS:
        shown = command(name)
        parts.append(_help(f"vtp {name}", shown))
        if isinstance(shown, click.Group):
            context = click.Context(shown)
            for inner in shown.list_commands(context):
                found = shown.get_command(context, inner)
                assert found is not None
                parts.append(_help(f"vtp {name} {inner}", found))
    return "\n".join([_HEAD, *parts])


def main() -> None:
    """Command line."""
    target = sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).with_name("cli.md"))
    if target == "-":
        print(document(), end="")
    else:
        Path(target).write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
