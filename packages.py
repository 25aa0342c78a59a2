"""The one check for optional packages."""

from __future__ import annotations

from importlib.util import find_spec

from .errors import MissingPackage


def require(extra: str, purpose: str, *packages: str) -> None:
    """Refuse early, with the install line, where an optional package is missing.

    Args:
        extra: the extra of ``vtp-toolkit`` that brings the packages.
        purpose: what needs them.
        packages: import names.

    Raises:
        MissingPackage: naming the first that is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingPackage(package, purpose, extra)
