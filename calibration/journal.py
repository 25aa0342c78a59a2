"""What has been answered, line by line on disk, so that an interrupted calibration goes on."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from ..errors import JournalBusy, JournalInvalid

_HEAD = {"vtp-journal": 1}


class Journal:
    """An append-only file of JSON lines, ``{"key": ..., ...}`` each, open for one process.

    A last line that was torn off is cut away; it is asked again.

    Args:
        path: the file; it and its folder are made where they do not exist.

    Raises:
        JournalBusy: another process has it open.
        JournalInvalid: a line before the last is damaged, or this is no journal.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._entries = self._read()
        except BlockingIOError as error:
            os.close(self._file)
            raise JournalBusy(path) from error
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file)
        os.close(self._file)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> dict[str, Any] | None:
        """What was noted under a key."""
        return self._entries.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Note something; it is in the file when this returns."""
        self._append({"key": key, **entry})
        self._entries[key] = entry

    def _append(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        while line:
            line = line[os.write(self._file, line) :]

    def _read(self) -> dict[str, dict[str, Any]]:
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole == 0 and not json.dumps(_HEAD).encode().startswith(data):
            raise JournalInvalid(self.path, 1)
        if whole < len(data):
            os.ftruncate(self._file, whole)
        lines = data[:whole].splitlines()
        if not lines:
            self._append(_HEAD)
            return {}
        entries: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                if number == 1:
                    if entry != _HEAD:
                        raise JournalInvalid(self.path, 1)
                    continue
                entries[entry.pop("key")] = entry
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise JournalInvalid(self.path, number) from error
        return entries
