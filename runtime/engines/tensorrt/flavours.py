"""The two libraries that share TensorRT's Python interface."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ....errors import EngineUnavailable


@dataclass(frozen=True, kw_only=True)
class Flavour:
    """One of the libraries."""

    name: str
    """As in ``--engine``."""
    module: str
    """Name of the Python module."""
    install: str
    """How to get it."""
    builds_for_other_cards: bool
    """Whether engines can be built for compute capabilities other than that of a card here."""
    unversioned: str | None = None
    """Name by which the library's ONNX parser opens the library itself, which no file of the wheel
    bears; the miss ends the process."""

    def installed(self) -> bool:
        """Whether the module can be imported."""
        return find_spec(self.module) is not None

    def load(self) -> Any:
        """The module.

        Raises:
            EngineUnavailable: it is not installed, or its libraries do not load.
        """
        if not self.installed():
            raise EngineUnavailable(
                self.name, f"the module {self.module} is not installed: {self.install}"
            )
        try:
            return import_module(self.module)
        except (ImportError, OSError) as error:
            raise EngineUnavailable(
                self.name, f"the module {self.module} does not load: {error}"
            ) from error

    def cuda(self) -> str | None:
        """Major version of CUDA that the installed wheels are built for, where their name says."""
        for name in packages_distributions().get(self.module, []):
            _, found, version = name.replace("-", "_").partition("_cu")
            if found and version[:2].isdigit():
                return version[:2]
        return None


FLAVOURS: dict[str, Flavour] = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            name="tensorrt",
            module="tensorrt",
            install="it is part of JetPack (apt install nvidia-jetpack, and a virtual environment "
            "made with --system-site-packages); elsewhere pip install tensorrt",
            builds_for_other_cards=False,
        ),
        Flavour(
            name="tensorrt-rtx",
            module="tensorrt_rtx",
            install="pip install 'vtp-toolkit[tensorrt-rtx]'",
            builds_for_other_cards=True,
            unversioned="libtensorrt_rtx.so",
        ),
    )
}
"""By name of the engine."""


def machine() -> str:
    """Processor architecture, such as ``x86_64`` or ``aarch64``."""
    return platform.machine()


def version_of(trt: Any) -> tuple[int, ...]:
    """The library's version as numbers, such as ``(10, 3, 0)``."""
    parts = str(trt.__version__).split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def target_for(flavour: str, version: Sequence[int]) -> str:
    """The target whose graphs a library takes."""
    # Attention came with 10.14; rotary embedding, RMS norm and the cache update with 10.15.
    return "trt10" if flavour == "tensorrt" and tuple(version[:2]) < (10, 15) else "onnx"


def with_unversioned_name(flavour: Flavour, folder: Path) -> dict[str, str]:
    """The environment for a process in which the library's ONNX parser finds the library.

    The dynamic loader reads ``LD_LIBRARY_PATH`` once, when a process starts.

    Args:
        flavour: the library.
        folder: where the missing name is put, as a link.
    """
    environment = dict(os.environ)
    if flavour.unversioned is None:
        return environment
    spec = find_spec(f"{flavour.module}_libs")
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [f for place in places for f in Path(place).glob(f"{flavour.unversioned}.*")]
    if found:
        (folder / flavour.unversioned).symlink_to(found[0])
        old = environment.get("LD_LIBRARY_PATH")
        environment["LD_LIBRARY_PATH"] = f"{folder}{os.pathsep}{old}" if old else str(folder)
    return environment
