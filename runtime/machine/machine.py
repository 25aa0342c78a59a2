"""What this machine is: processor, memory, card, board, versions; read, never guessed."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..engines import cuda_memory
from ..files.system_files import available_memory, kilobytes_of, text_of

PACKAGES = {
    "numpy": None,
    "pillow": None,
    "tokenizers": None,
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "gpu",
    "cuda-bindings": "gpu",
    "tensorrt": None,
    "tensorrt-rtx-cu13": "tensorrt-rtx",
    "polygraphy": "build",
    "onnx": "build",
    "torch": "export",
    "transformers": "export",
    "av": "video",
}
"""Packages that vtp uses, each with the extra of ``vtp-toolkit`` that brings it."""


@dataclass(frozen=True, kw_only=True)
class Card:
    """An NVIDIA device."""

    name: str
    capability: str
    """Compute capability, such as ``8.7``."""
    memory: int
    """Bytes; of a device that shares the host's memory, all of that."""
    unified: bool
    """Whether it shares the host's memory."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was found; None where there is nothing to read."""

    system: str
    processor: str | None
    architecture: str
    cores: int
    memory: int | None
    """Bytes of main memory."""
    available: int | None
    """Bytes of it that a new process can have."""
    disk: int
    """Bytes free in the folder asked about."""
    board: str | None
    """Model of a Jetson or another board with a device tree."""
    jetpack: str | None
    """L4T release of a Jetson, such as ``R36.4.3``."""
    driver: str | None
    """Version of the NVIDIA kernel driver."""
    card: Card | None
    no_card: str | None
    """Why there is none, with the way out."""

    @property
    def room(self) -> int | None:
        """Bytes that a model can have: of the card, or of main memory where that is all there is
        or shared with the card."""
        if self.card is not None and not self.card.unified:
            return self.card.memory
        return self.available


def read_machine(folder: Path, root: Path = Path("/")) -> Machine:
    """Look at this machine.

    Args:
        folder: where bundles would be written.
        root: of the file system that is read.
    """
    card, no_card = _card()
    existing = next(path for path in (folder, *folder.resolve().parents) if path.is_dir())
    return Machine(
        system=_system(root),
        processor=_processor(root),
        architecture=platform.machine(),
        cores=_cores(),
        memory=kilobytes_of(root / "proc/meminfo", "MemTotal"),
        available=available_memory(root),
        disk=shutil.disk_usage(existing).free,
        board=text_of(root / "proc/device-tree/model"),
        jetpack=_jetpack(root),
        driver=_driver(root),
        card=card,
        no_card=no_card,
    )


def versions() -> dict[str, str | None]:
    """Version of each of ``PACKAGES`` that is installed."""
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def _entries(path: Path, between: str) -> dict[str, str]:
    """Lines ``key<between>value`` of a file, the first of each key."""
    found: dict[str, str] = {}
    for line in (text_of(path) or "").splitlines():
        key, separator, value = line.partition(between)
        if separator:
            found.setdefault(key.strip(), value.strip())
    return found


def _system(root: Path) -> str:
    name = _entries(root / "etc/os-release", "=").get("PRETTY_NAME", "").strip('"')
    return f"{name or platform.system()}, kernel {platform.release()}"


def _processor(root: Path) -> str | None:
    entries = _entries(root / "proc/cpuinfo", ":")
    return entries.get("model name") or entries.get("Model")


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _jetpack(root: Path) -> str | None:
    """``# R36 (release), REVISION: 4.3, ...`` of ``/etc/nv_tegra_release``."""
    words = (text_of(root / "etc/nv_tegra_release") or "").replace(",", " ").split()
    if "REVISION:" not in words or len(words) < 2 or words.index("REVISION:") + 1 >= len(words):
        return None
    return f"{words[1]}.{words[words.index('REVISION:') + 1]}"


def _driver(root: Path) -> str | None:
    """``NVRM version: NVIDIA UNIX ... Kernel Module  580.65.06  ...``."""
    line = _entries(root / "proc/driver/nvidia/version", ":").get("NVRM version", "")
    words = line.split()
    return next((word for word in words if word[:1].isdigit() and "." in word), None)


def _card() -> tuple[Card | None, str | None]:
    reason = cuda_memory.missing()
    if reason is not None:
        return None, reason
    from cuda.bindings import runtime

    status, properties = runtime.cudaGetDeviceProperties(0)
    if status != runtime.cudaError_t.cudaSuccess:
        return None, f"cudaGetDeviceProperties returned {status.name}"
    return Card(
        name=properties.name.split(b"\0")[0].decode(),
        capability=f"{properties.major}.{properties.minor}",
        memory=int(properties.totalGlobalMem),
        unified=bool(properties.integrated),
    ), None
