"""Giving back memory that was freed."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress


def give_back() -> None:
    """Return freed memory to the system, before something else takes as much again.

    The C library keeps what was freed for later, which here is half a gigabyte and more.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
