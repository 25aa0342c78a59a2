"""Memory of this process, and of the device."""

from __future__ import annotations

from pathlib import Path

from ..engines.device import Device
from ..files.system_files import kilobytes_of

_PROC = Path("/proc")


def peak_host_bytes(proc: Path = _PROC) -> int | None:
    """Largest resident size of this process so far, mapped files included (``VmHWM``); None where
    the system does not tell."""
    return kilobytes_of(proc / "self" / "status", "VmHWM")


def host_bytes(proc: Path = _PROC) -> int | None:
    """Resident size of this process now (``VmRSS``)."""
    return kilobytes_of(proc / "self" / "status", "VmRSS")


def system_bytes_used(proc: Path = _PROC) -> int | None:
    """Memory of the machine that is not available to anybody (``MemTotal`` - ``MemAvailable``)."""
    info = proc / "meminfo"
    total, free = kilobytes_of(info, "MemTotal"), kilobytes_of(info, "MemAvailable")
    return None if total is None or free is None else total - free


def device_bytes(device: Device | None) -> int | None:
    """Bytes in use on the device, by all programs; None where there is none of its own."""
    return None if device is None else device.memory_used()
