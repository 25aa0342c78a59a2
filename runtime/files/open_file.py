"""Files that a user names: opened for reading, or one error that says why not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def label_of(path: str | os.PathLike[str]) -> str:
    """What errors call a path."""
    text = os.fspath(path)
    return text if len(text) <= 200 else f"{text[:200]}..."


def open_file(
    path: str | os.PathLike[str],
    label: str,
    kind: str,
    unreadable: Callable[[str, str], Exception],
) -> BinaryIO:
    """Open a file to read its bytes.

    Args:
        path: where it is.
        label: what errors call it.
        kind: what it should be, with its article, such as ``an image``.
        unreadable: makes the error, of the label and the reason.
    """
    text = os.fspath(path)
    if os.path.isdir(text):  # noqa: PTH112 - Path.is_dir raises on impossible names
        raise unreadable(label, f"it is a folder; give the path of {kind} file")
    try:
        return Path(text).open("rb")
    except FileNotFoundError as error:
        raise unreadable(label, "there is no such file") from error
    except (OSError, ValueError) as error:
        raise unreadable(label, getattr(error, "strerror", None) or str(error)) from error
