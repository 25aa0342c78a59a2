"""Engine ``cuda`` without its device: the same code binds addresses of host memory.

ONNX Runtime's CPU provider takes raw addresses as its CUDA provider does, so the whole pipeline
runs as on a device, but for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

import vtp
from vtp.errors import EngineUnavailable
from vtp.runtime.engines import ENGINES
from vtp.runtime.engines.onnxruntime.cuda import OnnxRuntimeCuda
from vtp.runtime.verify.verify import replay

from ..runtime.host_memory import HostMemory

TARGETS = ("ort", "onnx", "trt10")


class OnHost(OnnxRuntimeCuda):
    """The engine on host memory."""

    _device: ClassVar[str] = "cpu"
    targets = TARGETS

    @classmethod
    def missing(cls) -> str | None:
        return None

    def _make_memory(self) -> Any:
        return HostMemory()

    def _providers(self) -> list[Any]:
        return ["CPUExecutionProvider"]


@pytest.fixture
def on_host(monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of the engine."""
    monkeypatch.setitem(ENGINES, "cuda", "onnxruntime.cuda:OnHost")
    monkeypatch.setattr("vtp.runtime.engines.onnxruntime.cuda.OnHost", OnHost, raising=False)
    return "cuda"


@pytest.mark.parametrize(
    ("model", "method", "options"),
    [("grouped-query", "fastervlm", {}), ("deep", "pyramiddrop", {"keep": None})],
)
def test_the_golden_sample_comes_out(
    exported: Callable[..., Path], on_host: str, model: str, method: str, options: dict[str, Any]
) -> None:
    bundle = exported(model, method, **options)
    for target in TARGETS:
        pipeline = vtp.load(bundle, on_host, target=target)
        assert type(pipeline.engine) is OnHost
        assert replay(pipeline)


def test_two_turns_answer_as_on_the_processor(
    exported: Callable[..., Path], on_host: str, scene: Path
) -> None:
    bundle = exported("grouped-query", "fastv")
    answers = set()
    for engine in ("cpu", on_host):
        for target in TARGETS:
            chat = vtp.load(bundle, engine, target=target).chat()
            first = chat.ask([scene, scene], "what is it?", max_new_tokens=6)
            answers.add((first.tokens, chat.ask("and now?", max_new_tokens=6).tokens))
    assert len(answers) == 1


def test_a_provider_that_does_not_start_is_told(exported: Callable[..., Path]) -> None:
    reason = OnnxRuntimeCuda.missing()
    if reason is None:
        pytest.skip("there is a CUDA device")
    with pytest.raises(EngineUnavailable, match=r"pip|device"):
        vtp.load(exported("grouped-query"), "cuda")
