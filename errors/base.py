"""The base of all errors, and those that every part raises."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class VtpError(Exception):
    """Base of all errors of vtp; the command line prints it as one ``Error:`` line."""


def listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)


def first(items: Sequence[object]) -> str:
    """The first five, and how many more there are."""
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return listed(items[:5]) + more


class MissingPackage(VtpError, ImportError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"pip install 'vtp-toolkit[{extra}]'"
        )


class OptionInvalid(VtpError, ValueError):
    """An option outside what it accepts."""

    def __init__(self, name: str, value: object, accepted: str) -> None:
        super().__init__(f"{name} {value!r} is not accepted: give {accepted}")
