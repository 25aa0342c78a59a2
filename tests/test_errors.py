"""The tree of errors, as its page draws it."""

from __future__ import annotations

import re

from vtp import errors
from vtp.errors import VtpError


def classes() -> dict[str, type[VtpError]]:
    """Every error that the package exports."""
    return {name: getattr(errors, name) for name in errors.__all__}


def test_the_tree_draws_every_error_under_its_base_with_its_builtin() -> None:
    drawn = {}
    above = ["VtpError"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.fullmatch(r"([ │├└─]+)── (\w+)(?: +\((\w+)\))?", line):
            depth = len(match[1]) // 4
            del above[depth:]
            drawn[match[2]] = (above[-1], match[3])
            above.append(match[2])
    expected = {}
    for name, cls in classes().items():
        if cls is not VtpError:
            base, *builtin = cls.__bases__
            expected[name] = (base.__name__, builtin[0].__name__ if builtin else None)
    assert drawn == expected


def test_every_error_of_the_package_is_exported() -> None:
    found = set()
    todo = [VtpError]
    while todo:
        cls = todo.pop()
        found.add(cls.__name__)
        todo += [sub for sub in cls.__subclasses__() if sub.__module__.startswith("vtp.errors")]
    assert found == set(errors.__all__)
