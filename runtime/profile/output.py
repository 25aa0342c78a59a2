"""Files of a profile: whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path

from ...errors import OptionInvalid


def check_target(option: str, path: Path) -> None:
    """Refuse a path that cannot be written, before anything is measured.

    Raises:
        OptionInvalid: it is a folder, or lies in none.
    """
    if path.is_dir():
        raise OptionInvalid(option, str(path), "the path of a file, not of a folder")
    if not path.absolute().parent.is_dir():
        raise OptionInvalid(option, str(path), "a path in a folder that exists")


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place, then move it there."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
