"""What is here: device, driver, libraries."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = (
    "tensorrt_rtx_cu13",
    "tensorrt",
    "onnxruntime-gpu",
    "onnxruntime",
    "cuda-bindings",
    "polygraphy",
    "onnx",
    "torch",
    "transformers",
    "numpy",
)


def run(work: Path, bundle: Path | None) -> dict[str, Any]:
    """Facts, one a row."""
    rows = [
        {"what": "machine", "is": f"{platform.machine()}, {platform.platform()}"},
        {"what": "Python", "is": platform.python_version()},
    ]
    rows += [{"what": name, "is": _version(name)} for name in _PACKAGES]
    from ...runtime.engines.cuda_memory import Cuda, missing

    reason = missing()
    if reason is not None:
        return {"rows": rows, "notes": [f"no device: {reason}"]}
    cuda = Cuda("machine")
    rows += [
        {"what": "device", "is": cuda.name},
        {"what": "compute capability", "is": cuda.capability},
        {"what": "CUDA of the driver", "is": cuda.version()},
    ]
    return {"rows": rows}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
