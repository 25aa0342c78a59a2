"""A traced graph is read from disk where nothing that it depends on has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from vtp.errors import OptionInvalid
from vtp.export import ExportOptions, export_model
from vtp.export.graphs import trace_cache
from vtp.export.graphs.trace_cache import VARIABLE
from vtp.export.modules.graphs import WrappedGraph
from vtp.runtime.bundle.contract import GraphSpec, TensorSpec


class Scaled(nn.Module):
    def __init__(self, width: int = 4, factor: float = 2.0, how: Any = None) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.factor, self.how = factor, how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.factor


def wrapped(module: nn.Module, width: int = 4, name: str = "scaled") -> WrappedGraph:
    x, y = (TensorSpec(name=n, dtype="float32", shape=("tokens", width)) for n in ("x", "y"))
    spec = GraphSpec(name=name, inputs=(x,), outputs=(y,))
    return WrappedGraph(spec=spec, module=module)


def test_the_same_module_has_the_same_key() -> None:
    torch.manual_seed(1)
    first, second = (trace_cache._key(wrapped(Scaled())) for _ in range(2))  # other weights
    assert first is not None
    assert first == second


@pytest.mark.parametrize(
    "other",
    [
        wrapped(Scaled(factor=3.0)),
        wrapped(Scaled(width=8), 8),
        wrapped(Scaled(), name="other"),
        wrapped(Scaled().half()),
        wrapped(Scaled(how={"key": [1, 2]})),
        wrapped(nn.Sequential(Scaled())),
    ],
)
def test_whatever_changes_the_trace_changes_the_key(other: WrappedGraph) -> None:
    assert trace_cache._key(other) not in (None, trace_cache._key(wrapped(Scaled())))


def test_shared_weights_are_another_trace() -> None:
    apart, together = (nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]) for _ in range(2))
    together[1].weight = together[0].weight
    assert trace_cache._key(wrapped(apart)) != trace_cache._key(wrapped(together))


def test_a_change_of_the_source_or_of_a_package_changes_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = trace_cache._key(wrapped(Scaled()))
    for name, value in (("_ROOT", tmp_path), ("_PACKAGES", ("torch",))):
        with monkeypatch.context() as patch:
            patch.setattr(trace_cache, name, value)
            trace_cache._surroundings.cache_clear()
            assert trace_cache._key(wrapped(Scaled())) != before
    trace_cache._surroundings.cache_clear()
    assert trace_cache._key(wrapped(Scaled())) == before


def test_a_function_with_some_arguments_is_described() -> None:
    """The activation of SigLIP's towers is one."""
    gelu = nn.functional.gelu
    ways = [partial(gelu, approximate=how) for how in ("tanh", "tanh", "none")]
    first, same, other = (trace_cache._key(wrapped(Scaled(how=way))) for way in ways)
    assert first is not None
    assert first == same != other


def test_what_cannot_be_described_is_traced_anew() -> None:
    assert trace_cache._key(wrapped(Scaled(how=object()))) is None


def test_a_damaged_file_is_traced_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "traces"))
    module = Scaled()
    first = trace_cache.cached_trace(wrapped(module))
    (file,) = (tmp_path / "traces").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    again = trace_cache.cached_trace(wrapped(module))
    assert [node.op_type for node in again.graph] == [node.op_type for node in first.graph]
    assert file.read_bytes() == whole


def test_a_place_that_is_no_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "file"))
    with pytest.raises(OptionInvalid, match=f"{VARIABLE}.*folder"):
        trace_cache.cached_trace(wrapped(Scaled()))


@pytest.mark.slow
def test_an_export_from_the_cache_writes_the_same_graphs(
    llava: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ExportOptions(targets=("ort", "trt10"))
    monkeypatch.delenv(VARIABLE)
    export_model(str(llava("shallow")), tmp_path / "traced", options)
    assert not (tmp_path / "traces").exists()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "traces"))
    export_model(str(llava("shallow")), tmp_path / "first", options)
    traces = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "traces").iterdir()}
    assert len(traces) == 2  # vision and language

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("traced again")

    monkeypatch.setattr(torch.export, "export", never)
    export_model(str(llava("shallow")), tmp_path / "second", options)
    assert traces == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "traces").iterdir()}
    for name in ("traced", "second"):
        files = sorted((tmp_path / name).glob("*.onnx"))
        assert len(files) == 4
        for file in files:
            assert file.read_bytes() == (tmp_path / "first" / file.name).read_bytes(), file.name
