"""What the commands of ``vtp calibrate`` share: options, progress, the report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from ...calibration.progress import Progress

if TYPE_CHECKING:
    from ...calibration.data import QuestionFile
    from ...calibration.journal import Journal

JOURNAL = "journal.jsonl"
_SECONDS_BETWEEN_LINES = 5.0


def confidence_option(
    what: str = "Probability that the choice also holds for other questions of the same kind; 0 "
    "uses the values measured on this data.",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``--confidence``; ``what`` says what it is the chance of."""
    return click.option(
        "--confidence",
        type=click.FloatRange(0, 1, max_open=True),
        default=0.95,
        show_default=True,
        metavar="C",
        help=what,
    )


def question_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--data`` and ``--max-new-tokens``."""
    function = click.option(
        "--max-new-tokens",
        type=click.IntRange(min=1),
        metavar="N",
        help="Maximum length of an answer, in tokens.",
    )(function)
    return click.option(
        "--data",
        "data_file",
        required=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Questions, one JSON object per line: image, prompt and, where it is known, answer.",
    )(function)


def data_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--data``, ``--out`` and ``--max-new-tokens``."""
    function = click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=False),
        metavar="DIR",
        help="Folder for the results and for the journal, from which an interrupted calibration "
        "resumes.  [default: NAME-calibration next to the data file]",
    )(function)
    return question_options(function)


@contextmanager
def opened(data_file: Path, out: Path | None) -> Iterator[tuple[QuestionFile, Path, Journal]]:
    """The questions, the output folder and its journal; tells how to go on when it ends early."""
    from ...calibration.data import read_questions
    from ...calibration.journal import Journal

    data = read_questions(data_file)
    if data.ignored:
        print(f"Note: ignored in {data_file}: {', '.join(data.ignored)}", file=sys.stderr)
    folder = out or data_file.with_name(f"{data_file.stem}-calibration")
    with Journal(folder / JOURNAL) as journal:
        before = len(journal)
        if before:
            print(f"[{journal.path} has {before} answers]", file=sys.stderr)
        try:
            yield data, folder, journal
        except (KeyboardInterrupt, SystemExit):
            print(
                f"\n[{len(journal)} answers are stored in {journal.path}; run the command again to "
                "resume]",
                file=sys.stderr,
            )
            raise


class ShownProgress(Progress):
    """On stderr: one line that changes on a terminal, else one every few seconds."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._told = monotonic()
        self._open = False

    def step(self, text: str) -> None:
        self._told = monotonic()
        if self._open:
            print(file=sys.stderr)
            self._open = False
        print(text, file=sys.stderr, flush=True)

    def answered(self, done: int, total: int, seconds_left: float | None) -> None:
        now, wait = monotonic(), 0.2 if self._live else _SECONDS_BETWEEN_LINES
        if now - self._told < wait and (done < total or not self._live):
            return
        self._told = now
        text = f"{done} of {total} answers{_time_left(seconds_left) if done < total else ''}"
        # Over the line before, which may have been longer.
        end = "\n" if done == total else ""
        self._open = self._live and not end
        shown = f"\r{text:<50}{end}" if self._live else f"{text}\n"
        print(shown, end="", file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        print(f"Warning: {text}", file=sys.stderr, flush=True)


def _time_left(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes or hours)
    return f", {' '.join(parts) if hours or minutes > 9 else ' '.join([*parts, f'{rest} s'])} left"


def percent(share: float | None, digits: int = 2) -> float | None:
    """A share in percent."""
    return None if share is None else round(100 * share, digits)


def tell(rows: Mapping[str, Sequence[Mapping[str, Any]]], form: str) -> None:
    """Print the table."""
    from ..tables import show

    show(rows, form)
    sys.stdout.flush()
