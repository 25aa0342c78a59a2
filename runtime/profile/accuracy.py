"""Accuracy by keep, from a file: a profile does not measure it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import OptionInvalid
from ..files.open_file import open_file

_FORM = (
    'a JSON file such as {"1.0": 0.987, "0.1": 0.99}, or what python -m vtp.samples.evaluate '
    "prints, of one bundle"
)
_MOST_BYTES = 2**24


def read_accuracy(path: Path, keeps: Sequence[str]) -> dict[str, float]:
    """Keep -> share of right answers in 0..1.

    Args:
        path: a JSON object of those, or the output of ``samples.evaluate``, whose last line counts.
        keeps: that are measured; the file must know one of them.

    Raises:
        OptionInvalid: the file cannot be read, or holds something else.
    """

    def unreadable(label: str, reason: str) -> OptionInvalid:
        return OptionInvalid("--accuracy", label, f"{_FORM} ({reason})")

    with open_file(path, str(path), "a JSON", unreadable) as file:
        content = file.read(_MOST_BYTES)
    try:
        text = content.decode("utf-8").strip()
        data = json.loads(text if text.startswith("{\n") else text.splitlines()[-1])
    except (ValueError, IndexError, RecursionError) as error:
        try:
            data = json.loads(content)
        except (ValueError, RecursionError):
            raise unreadable(str(path), f"it is not JSON: {error}") from error
    found = _shares(data)
    if found is None:
        raise unreadable(str(path), "it has other content")
    if not set(found) & set(keeps):
        measured, known = ", ".join(keeps), ", ".join(found)
        raise unreadable(str(path), f"it has keep {known}, but {measured} are measured")
    return found


def _shares(data: Any) -> dict[str, float] | None:
    if isinstance(data, dict) and isinstance(data.get("accuracy"), dict):
        bundles = list(data["accuracy"].values())
        if len(bundles) != 1 or not isinstance(bundles[0], dict):
            return None
        data = {
            keep: cell.get("average") if isinstance(cell, dict) else None
            for keep, cell in bundles[0].items()
            if cell is not None
        }
    if not isinstance(data, dict) or not data:
        return None
    if not all(_is_share(share) for share in data.values()):
        return None
    return {str(keep): float(share) for keep, share in data.items()}


def _is_share(share: Any) -> bool:
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    return number and math.isfinite(share) and 0 <= share <= 1
