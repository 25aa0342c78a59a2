"""A device that is not there, for the checks that need one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vtp.errors import KernelUnavailable
from vtp.runtime.engines import cuda_memory
from vtp.runtime.engines.tensorrt import variant
from vtp.runtime.engines.tensorrt.flavours import FLAVOURS

from ...runtime.stand_in_build import add_variant, in_place
from .stand_in_device import StandInCuda

torch.set_num_threads(1)

REFUSED = "built with operators of its own only"


@pytest.fixture
def no_device() -> str:
    """Why there is no device."""
    reason = cuda_memory.missing()
    if reason is None:
        pytest.skip("there is a CUDA device: run make gpu-check")
    return reason


@pytest.fixture
def device(no_device: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The stand-in for TensorRT, over host memory; TensorRT-RTX is not there."""

    def build(bundle: Path, options: variant.BuildOptions) -> None:
        if options.topk == "plugin":
            raise KernelUnavailable(REFUSED)
        add_variant(bundle, "onnx", name=options.name, topk=options.topk, tokens=None)

    rtx = replace(FLAVOURS["tensorrt-rtx"], module="not_there")
    with in_place(monkeypatch):
        monkeypatch.setitem(FLAVOURS, "tensorrt-rtx", rtx)
        monkeypatch.setattr(variant, "build_variant", build)
        monkeypatch.setattr(cuda_memory, "Cuda", StandInCuda)
        yield
