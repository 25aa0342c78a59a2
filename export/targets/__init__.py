"""The flavours of graph that a bundle carries, one file each.

All targets of a bundle share its weight file; only the small graph files differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import OptionInvalid
from ...registry import load_row
from .base import Target

TARGETS: dict[str, str] = {
    "ort": "ort:OrtTarget",
    "onnx": "onnx:OnnxTarget",
    "trt10": "trt10:Trt10Target",
}
DEFAULT_TARGETS = ("ort", "onnx")
"""What a bundle carries where nothing else is asked for."""


def check_targets(names: Sequence[str]) -> None:
    """Refuse names that are no targets.

    Raises:
        OptionInvalid: one is not, or there is none.
    """
    for name in names or [""]:
        if name not in TARGETS:
            raise OptionInvalid("target", name, f"one of {', '.join(TARGETS)}")


def make_target(name: str) -> Target:
    """The target called ``name`` (a key of ``TARGETS``)."""
    target: Target = load_row(TARGETS[name], __name__)()
    return target
