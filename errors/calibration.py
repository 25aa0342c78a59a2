"""What calibration cannot use, or cannot reach."""

from __future__ import annotations

from pathlib import Path

from .base import VtpError


class CalibrationError(VtpError):
    """Something about calibration."""


class DataUnreadable(CalibrationError, ValueError):
    """A data file that cannot be opened, or holds no question."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"data file {source!r} cannot be read: {reason}; it needs one JSON object per line "
            "with "
            'image, prompt and, if known, answer: {"image": "a.png", "prompt": "What is it?"}'
        )


class DataInvalid(CalibrationError, ValueError):
    """A line of a data file that is no question, or that the model cannot be asked."""

    def __init__(self, source: str, line: int, problem: str, more: int = 0) -> None:
        others = f" ({more} more line(s) have errors)" if more else ""
        super().__init__(f"{source}, line {line}: {problem}{others}; nothing was changed")


class BoundNotMet(CalibrationError, ValueError):
    """Nothing that was tried stays within the drop, or reaches the accuracy, that was asked for."""

    def __init__(self, asked: str, best: str, way_out: str) -> None:
        super().__init__(f"{asked} cannot be reached: {best}; nothing was written; {way_out}")


class JournalInvalid(CalibrationError, ValueError):
    """A journal that is damaged elsewhere than at its end, or is none."""

    def __init__(self, path: Path, line: int) -> None:
        super().__init__(
            f"journal {str(path)!r} is damaged at line {line}: delete it to start again, or choose "
            "another folder for it (--out; --journal of vtp calibrate quantize)"
        )


class JournalBusy(CalibrationError, RuntimeError):
    """Another calibration writes to the journal."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"journal {str(path)!r} is in use by another calibration: wait until it has ended, or "
            "choose another folder (--out; --journal of vtp calibrate quantize)"
        )


class NotCalibratable(CalibrationError, ValueError):
    """A bundle that this calibration has nothing to choose for."""

    def __init__(self, bundle: Path, problem: str) -> None:
        super().__init__(f"{str(bundle)!r} cannot be calibrated this way: {problem}")
