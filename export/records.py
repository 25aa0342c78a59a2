"""What the manifest says of the files that an export writes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from ..runtime.bundle.contract import TensorSpec
from ..runtime.bundle.manifest import (
    FileRecord,
    GraphRecord,
    LanguageRecord,
    WeightsRecord,
)

if TYPE_CHECKING:
    from ..parts.language import LanguageParts


def graph_file(name: str, target: str) -> str:
    """Name of the file of a graph."""
    return f"{name}.onnx" if target == "onnx" else f"{name}.{target}.onnx"


def file_record(folder: Path, name: str) -> FileRecord:
    """Of a small file that was written."""
    data = (folder / name).read_bytes()
    return FileRecord(file=name, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def graph_record(folder: Path, name: str, target: str, model: ir.Model) -> GraphRecord:
    """Of a graph that was written."""
    file = file_record(folder, graph_file(name, target))
    return GraphRecord(
        name=name,
        target=target,
        file=file.file,
        sha256=file.sha256,
        bytes=file.bytes,
        opset=model.opset_imports[""],
        inputs=_specs(model.graph.inputs),
        outputs=_specs(model.graph.outputs),
    )


def language_record(
    language: LanguageParts,
    embedding: str,
    separator: str | None,
    dtype: str,
    weights: WeightsRecord | None,
) -> LanguageRecord:
    """Of a decoder; ``embedding`` and ``separator`` are names in the weight file."""
    config = language.config
    return LanguageRecord(
        layers=len(language.layers),
        heads=config.num_attention_heads,
        kv_heads=language.kv_heads,
        head_dim=language.head_dim,
        width=config.hidden_size,
        inner=config.intermediate_size,
        vocab=config.vocab_size,
        context=language.context,
        embedding=embedding,
        dtype=dtype,
        position_axes=language.position_axes,
        separator=separator,
        weights=weights,
        planes=language.planes,
    )


def _specs(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    specs = []
    for value in values:
        assert value.name is not None
        assert value.dtype is not None
        assert value.shape is not None
        dims = value.shape.dims
        shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in dims)
        specs.append(TensorSpec(name=value.name, dtype=value.dtype.numpy().name, shape=shape))
    return tuple(specs)
