"""What a calibration tells about its progress; the command line draws it."""

from __future__ import annotations

from time import perf_counter


class Progress:
    """Told of every answer; does nothing by itself."""

    def step(self, text: str) -> None:
        """A part of the work begins."""

    def answered(self, done: int, total: int, seconds_left: float | None) -> None:
        """So many of the answers of this part are there; ``None`` where the time is not known."""

    def warn(self, text: str) -> None:
        """Something that the user should know."""


class Clock:
    """Time left of a part, from the answers that were new in it.

    Args:
        total: answers of the part.
        progress: told.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self._total, self._progress = total, progress
        self._done = self._fresh = 0
        self._seconds = 0.0
        self._began = perf_counter()

    def answered(self, fresh: bool) -> None:
        """One more answer, from the model or from the journal."""
        now = perf_counter()
        self._done += 1
        if fresh:
            self._fresh += 1
            self._seconds += now - self._began
        self._began = now
        each = self._seconds / self._fresh if self._fresh else None
        left = None if each is None else each * (self._total - self._done)
        self._progress.answered(self._done, self._total, left)
