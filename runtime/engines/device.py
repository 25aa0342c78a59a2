"""What can be measured of a device that works behind the host's back."""

from __future__ import annotations

from abc import ABC, abstractmethod


class DeviceClock(ABC):
    """Its clock."""

    @abstractmethod
    def stamp(self) -> None:
        """Note the moment at which the device has done what it was asked for so far; does not
        wait."""

    @abstractmethod
    def read_ms(self) -> list[float]:
        """All moments noted since the last call, milliseconds since the first of them; waits."""


class Device(ABC):
    """A device that graphs run on."""

    name: str
    unified: bool
    """Whether it works in the host's own memory."""

    @abstractmethod
    def give_back(self) -> None:
        """Return memory that no buffer uses any more."""

    @abstractmethod
    def clock(self) -> DeviceClock:
        """A new clock."""

    @abstractmethod
    def bus_id(self) -> str:
        """Where it is, as NVML writes it."""

    @abstractmethod
    def memory_used(self) -> int:
        """Bytes that are in use on it, by all programs together."""
