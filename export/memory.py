"""Memory of this machine: how much is free, and giving back what was freed."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path


def available_memory() -> int | None:
    """Bytes that processes can take without swapping; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return sizes.get("MemAvailable")


def give_back() -> None:
    """Return freed memory to the system, before something else takes as much again.

    The C library keeps what was freed for later, which here is half a gigabyte and more.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
