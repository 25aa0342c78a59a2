"""The flavours of graph that a bundle carries, one file each.

All targets of a bundle share its weight file; only the small graph files differ.
"""

from __future__ import annotations

from importlib import import_module

from .base import Target

TARGETS: dict[str, str] = {
    "ort": "ort:OrtTarget",
    "onnx": "onnx:OnnxTarget",
}


def make_target(name: str) -> Target:
    """The target called ``name`` (a key of ``TARGETS``)."""
    module, _, attribute = TARGETS[name].partition(":")
    target: Target = getattr(import_module(f".{module}", __name__), attribute)()
    return target
