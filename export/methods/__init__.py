"""Pruning methods, one file each; a new method is a file and a row here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import MethodUnknown
from ...registry import load_row

if TYPE_CHECKING:
    from .base import Method

METHODS: dict[str, str] = {
    "fastervlm": "fastervlm:FasterVlm",
    "vtc-cls": "vtc_cls:VtcCls",
    "visionzip": "visionzip:VisionZip",
    "vispruner": "vispruner:VisPruner",
    "divprune": "divprune:DivPrune",
    "cdpruner": "cdpruner:CdPruner",
    "fopru": "fopru:FoPru",
    "fastv": "fastv:FastV",
    "pyramiddrop": "pyramiddrop:PyramidDrop",
    "sparsevlm": "sparsevlm:SparseVlm",
    "schedule": "schedule:FreeSchedule",
    "sgl": "sgl:SmallVlmGuidance",
    "guide": "guide:GuideMethod",
    "none": "none:NoPruning",
    "random": "random:RandomOrder",
    "uniform": "uniform:UniformGrid",
}


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        MethodUnknown: no such method.
    """
    if name not in METHODS:
        raise MethodUnknown(name, METHODS)
    found: type[Method] = load_row(METHODS[name], __name__)
    return found
