"""An output folder that appears complete or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputExists
from ..runtime.bundle.manifest import FILE_NAME


@contextmanager
def replace_folder(out: Path, force: bool) -> Iterator[Path]:
    """A temporary folder beside ``out`` that takes its place if the block ends well.

    Args:
        out: the folder to make.
        force: whether an existing bundle there may be replaced; anything else never is.

    Raises:
        OutputExists: ``out`` exists and may not be replaced.
    """
    _check(out, force)
    made = [folder for folder in out.parents if not folder.exists()]
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        work.chmod(0o755)
        yield work
        _check(out, force)
        if out.exists() and any(out.iterdir()):
            # A folder cannot be renamed over a full one: the old one steps aside first.
            aside = work.with_suffix(".old")
            try:
                out.rename(aside)
                work.rename(out)
            finally:
                # Whatever stopped it, an interruption too: one of the two is in place.
                if out.exists():
                    shutil.rmtree(aside, ignore_errors=True)
                else:
                    aside.rename(out)
        else:
            work.rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if not out.exists():
            for folder in made:
                with suppress(OSError):  # somebody else's file is in it
                    folder.rmdir()


def _check(out: Path, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if out.is_dir() and not out.is_symlink() and not any(out.iterdir()):
        return
    replaceable = (out / FILE_NAME).is_file() and not out.is_symlink()
    if not (force and replaceable):
        raise OutputExists(out, replaceable)
