"""The command ``vtp``: the click group and the table of its commands.

A command's module is imported when it is used, and imports what is heavy inside its function, so
that ``vtp --help`` works with click alone. stdout is data, stderr is progress.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import VtpError
from .packages import require

if TYPE_CHECKING:
    import click

COMMANDS: dict[str, str] = {
    "export": "export:export",
    "run": "run:run",
    "build": "build:build",
    "inspect": "inspect:inspect",
    "verify": "verify:verify",
    "profile": "profile:profile",
    "calibrate": "calibrate:calibrate",
    "list": "list:list_",
    "doctor": "doctor:doctor",
}


def command(name: str) -> click.Command:
    """The click command of a row of ``COMMANDS``."""
    from .registry import load_row

    found: click.Command = load_row(COMMANDS[name], f"{__package__}.commands")
    return found


def group() -> click.Group:
    """The click group ``vtp``."""
    import click

    from .commands.lazy import LazyGroup

    @click.group(
        cls=LazyGroup,
        table=COMMANDS,
        package=f"{__package__}.commands",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.version_option(__version__, prog_name="vtp")
    def vtp() -> None:
        """Run vision-language models with pruned image tokens on edge devices.

        \b
        Example:
          vtp export tiny --keep 0.1 --out out/tiny
          vtp run out/tiny --image scene.png --prompt "how many objects are there?"
        """

    return vtp


def main() -> None:
    """Entry point ``vtp``."""
    _guard("vtp", lambda: group()(prog_name="vtp", standalone_mode=False))


def main_export() -> None:
    """Entry point ``vtp-export``: ``vtp export`` with the same arguments."""
    _guard("vtp-export", lambda: command("export")(prog_name="vtp-export", standalone_mode=False))


def _guard(name: str, run: Any) -> None:
    """Run, and turn what is raised into one ``Error:`` line and an exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require("cli", f"the command {name}", "click", "rich")
    except VtpError as error:
        sys.exit(f"Error: {error}")
    import click

    try:
        run()
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)
    except VtpError as error:
        sys.exit(f"Error: {' '.join(str(error).split())}")
    except BrokenPipeError:
        # The reader of a pipe (such as head) has gone; there is nobody to tell.
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        # No space, no permission, no such folder: for the user to mend, not a bug.
        known = error.filename is not None and error.strerror
        sys.exit(f"Error: {f'{error.filename}: {error.strerror}' if known else error}")


if __name__ == "__main__":
    main()
