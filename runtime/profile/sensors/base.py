"""What a sensor is: something that may be read between requests, and may be absent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...files.system_files import number_of, text_of

QUANTITIES = ("clock", "temperature", "power", "energy", "power mode", "throttling", "load")
"""What a profile asks for."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One number, or word, of one moment."""

    quantity: str
    """One of ``QUANTITIES``."""
    name: str
    """Of what, such as ``GPU`` or ``VDD_IN``."""
    value: float | str
    unit: str
    """``MHz``, ``°C``, ``W``, ``J`` since some moment, ``events`` since some moment; empty for
    words."""
    whole: bool = False
    """Of power and energy: whether it stands for all that the sensor knows, rather than for a part
    of it."""
    wraps: float | None = None
    """Of a counter: where it starts again from 0."""


class Sensor(ABC):
    """A source of readings.

    Args:
        root: folder that stands for ``/``.
    """

    name: ClassVar[str]
    root: Path

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    @abstractmethod
    def absent(self) -> str | None:
        """Why nothing of it can be read here; None if something can."""

    @abstractmethod
    def read(self) -> list[Reading]:
        """What can be read now. A quantity that cannot is left out, never 0."""


def paths(root: Path, pattern: str) -> list[Path]:
    """Files below ``root`` that fit, in order; links are followed."""
    try:
        return sorted(root.glob(pattern))
    except OSError:
        return []


def thermal_zones(root: Path) -> list[Reading]:
    """Every thermal zone that the kernel names and can read at this moment."""
    found = []
    for zone in paths(root, "sys/class/thermal/thermal_zone*"):
        kind, value = text_of(zone / "type"), number_of(zone / "temp")
        # A zone of a part that is switched off gives no number, or one below freezing.
        if kind is not None and value is not None and value > 0:
            found.append(Reading(quantity="temperature", name=kind, value=value / 1e3, unit="°C"))
    return found
