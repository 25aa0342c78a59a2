"""Small files in which Linux tells about the machine."""

from __future__ import annotations

from pathlib import Path


def text_of(path: Path) -> str | None:
    """Content of a small file of the kernel, stripped; None where it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.strip().strip("\0") or None


def number_of(path: Path) -> float | None:
    """The number in such a file; None where there is none."""
    try:
        return float(text_of(path) or "")
    except ValueError:
        return None


def kilobytes_of(path: Path, key: str) -> int | None:
    """Bytes of an entry ``key: N kB`` of a file such as ``/proc/meminfo``; None without it."""
    for line in (text_of(path) or "").splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if name == key and number and number[0].isdigit():
            return int(number[0]) * 1024
    return None


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that a process can take without swapping; None where the system does not tell.

    Args:
        root: of the file system that is read.
    """
    return kilobytes_of(root / "proc/meminfo", "MemAvailable")
