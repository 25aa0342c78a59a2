"""``vtp calibrate``: the group and the table of its commands."""

from __future__ import annotations

import click

from ..lazy import LazyGroup

COMMANDS: dict[str, str] = {
    "keep": "keep:keep",
    "schedule": "schedule:schedule",
    "exit": "exit:exit_",
    "quantize": "quantize:quantize",
}


@click.group(
    cls=LazyGroup,
    table=COMMANDS,
    package=__package__,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def calibrate() -> None:
    """Choose keeps, schedules, exit thresholds and quantization with your own data.

    The data is a file with one JSON object per line: image (a path), prompt and, where it is known,
    answer. Answers are stored on disk: after an interruption, the same command resumes.

    \b
    Example:
      vtp calibrate keep out/tiny --data questions.jsonl --max-drop 1
      vtp calibrate schedule tiny --data questions.jsonl --average 0.25
      vtp calibrate exit out/large --guide out/small --data questions.jsonl
      vtp calibrate quantize out/tiny --data questions.jsonl --out out/tiny-int8
    """
