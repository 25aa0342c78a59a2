"""Files that git left as pointers: Git LFS keeps large files elsewhere
(https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md)."""

from __future__ import annotations

from pathlib import Path

from ...errors import LfsPointer

_BEGINS = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path) -> None:
    """Refuse a file that is a pointer, whatever else it should be.

    Raises:
        LfsPointer: it is one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if file.read(len(_BEGINS)) == _BEGINS:
            raise LfsPointer(path.parent, path.name)
