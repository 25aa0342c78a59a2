"""Traced graphs on disk, for those who export again and again: set ``VTP_TRACE_CACHE=FOLDER``.

The name of a file is a hash over all that a trace depends on: the wrapper module with every setting
and size in it, the graph's inputs and outputs, the source of this package that traces, and the
versions of the packages that do. Values of weights are no part of a trace. Where something in a
module cannot be described, its graph is traced anew.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import sys
import tempfile
import types
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from transformers import PreTrainedConfig

from ...errors import OptionInvalid
from ..modules.graphs import WrappedGraph
from .tracing import trace

VARIABLE = "VTP_TRACE_CACHE"
_PACKAGES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript")
_NO_VALUE = "no-value"
"""Location of an initializer that has no value."""
_ROOT = Path(__file__).parents[2]
_SOURCES = ("export", "runtime/bundle", "trt_plugins")


def cached_trace(graph: WrappedGraph) -> ir.Model:
    """As ``tracing.trace``, but read from disk where the same graph was traced before."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        return trace(graph)
    key = _key(graph)
    if key is None:
        return trace(graph)
    path = Path(folder) / f"{key}.onnx"
    model = _read(path)
    if model is None:
        model = trace(graph)
        _write(model, path)
    return model


def _read(path: Path) -> ir.Model | None:
    """The graph of a file; None where there is none, or one that is damaged."""
    if not path.is_file():
        return None
    try:
        model = ir.load(path)
    except Exception:  # protobuf and onnx_ir raise many types
        return None
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = None
    return model


def _write(model: ir.Model, path: Path) -> None:
    """Whole or not at all, whoever writes the same at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OptionInvalid(
            VARIABLE, str(path.parent), f"a folder to write to ({error})"
        ) from error
    copy = model.clone()
    for name, value in copy.graph.initializers.items():
        if value.const_value is None:
            assert value.dtype is not None
            assert value.shape is not None
            value.const_value = ir.ExternalTensor(
                location=_NO_VALUE, offset=0, length=0, dtype=value.dtype, shape=value.shape,
                name=name,
            )  # fmt: skip
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(ir.to_proto(copy).SerializeToString())
    Path(file.name).replace(path)


def _key(graph: WrappedGraph) -> str | None:
    try:
        described = _Description().of(graph.module)
    except _NotDescribed:
        return None
    text = repr((_surroundings(), graph.spec, described))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _surroundings() -> str:
    """Versions of what traces, and a hash of our own part of it."""
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((_ROOT / folder).rglob("*.py")):
            digest.update(str(path.relative_to(_ROOT)).encode())
            digest.update(path.read_bytes())
    versions = [f"{name} {metadata.version(name)}" for name in _PACKAGES]
    return repr((sys.version_info[:2], versions, digest.hexdigest()))


class _NotDescribed(Exception):
    """Something whose state is not known."""


class _Description:
    """What a module is: classes, settings, shapes and types, but no values of tensors."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []

    def of(self, thing: Any) -> Any:
        """A value whose ``repr`` says it all."""
        if thing is None or isinstance(thing, (bool, int, float, str, bytes)):
            return thing
        if isinstance(thing, (torch.dtype, torch.device, torch.Size, np.dtype)):
            return str(thing)
        if isinstance(thing, torch.Tensor):
            return "tensor", tuple(thing.shape), str(thing.dtype), self._number(thing)
        if isinstance(thing, PreTrainedConfig):
            return thing.to_json_string(use_diff=False)
        if isinstance(thing, (type, types.BuiltinFunctionType)):
            return f"{thing.__module__}.{thing.__qualname__}"
        if id(thing) in self._seen:
            return "seen", self._seen[id(thing)]
        number = self._number(thing)
        if isinstance(thing, types.FunctionType):
            held = [self.of(cell.cell_contents) for cell in thing.__closure__ or ()]
            return number, f"{thing.__module__}.{thing.__qualname__}", held
        if isinstance(thing, types.MethodType):
            return number, thing.__qualname__, self.of(thing.__self__)
        if isinstance(thing, functools.partial):
            return number, [self.of(part) for part in (thing.func, thing.args, thing.keywords)]
        if isinstance(thing, np.ndarray):
            return thing.dtype.str, thing.shape, hashlib.sha256(thing.tobytes()).hexdigest()
        if isinstance(thing, Mapping):
            return number, [(self.of(key), self.of(value)) for key, value in thing.items()]
        if isinstance(thing, (list, tuple)):
            return number, type(thing).__name__, [self.of(each) for each in thing]
        if isinstance(thing, (set, frozenset)):
            return number, sorted(repr(self.of(each)) for each in thing)
        name = f"{type(thing).__module__}.{type(thing).__qualname__}"
        if dataclasses.is_dataclass(thing):
            fields = dataclasses.fields(thing)
            return number, name, [(f.name, self.of(getattr(thing, f.name))) for f in fields]
        if isinstance(thing, nn.Module):
            return number, name, [(key, self.of(value)) for key, value in vars(thing).items()]
        if type(thing).__module__.partition(".")[0] in ("transformers", "vtp"):
            return number, name, [(key, self.of(value)) for key, value in vars(thing).items()]
        raise _NotDescribed(name)

    def _number(self, thing: object) -> int:
        """The same for the same thing: what is shared is part of a trace."""
        if id(thing) not in self._seen:
            self._seen[id(thing)] = len(self._seen)
            self._kept.append(thing)  # so that its id is not given again
        return self._seen[id(thing)]
