"""A bfloat16 bundle with the arithmetic of float32, for the check on a processor.

ONNX Runtime's CPU engine has next to no operators of bfloat16. The copy has the graphs of the
bundle with every bfloat16 in them made float32, and the same weight file: where a graph reads a
weight, it is cast. So the check sees what the weights were rounded to and every node of the graphs;
how the arithmetic of a device rounds in between it does not see.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from ...runtime.bundle.manifest import FILE_NAME, Manifest

_NARROW, _WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT


@contextmanager
def widened_copy(folder: Path) -> Iterator[Path]:
    """The bundle in ``folder`` as one of float32, in a folder that is gone afterwards.

    Its manifest has the sha256 of the bundle's graphs, so it is loaded with ``verify=False`` only.
    """
    copy = Path(tempfile.mkdtemp(prefix=".widened.", dir=folder))
    try:
        manifest = Manifest.from_json((folder / FILE_NAME).read_text(encoding="utf-8"))
        for record in manifest.graphs:
            model = ir.load(folder / record.file)
            widen(model)
            ir.save(model, copy / record.file)
        for file in (manifest.weights, *manifest.files):
            os.link(folder / file.file, copy / file.file)
        language = replace(manifest.language, dtype="float32")
        text = replace(manifest, language=language).to_json()
        (copy / FILE_NAME).write_text(text, encoding="utf-8")
        yield copy
    finally:
        shutil.rmtree(copy)


def widen(model: ir.Model) -> None:
    """Make every bfloat16 of a graph float32, in place."""
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        if value.dtype is not _NARROW and not _is_narrow(value):
            continue
        cast = ir.node("Cast", [value], attributes={"to": _WIDE})
        cast.outputs[0].shape = value.shape
        cast.outputs[0].name = f"{name}.widened"
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        cast.replace_input_with(0, value)
        graph.insert_before(graph[0], cast)
        cast.outputs[0].dtype = _WIDE
    for node in ir.traversal.RecursiveGraphIterator(graph):
        to = node.attributes.get("to")
        if to is not None and to.as_int() == _NARROW:
            node.attributes["to"] = ir.AttrInt64("to", int(_WIDE))
        for output in node.outputs:
            if output.dtype is _NARROW:
                output.dtype = _WIDE
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype is _NARROW:
            value.dtype = _WIDE


def _is_narrow(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.dtype is _NARROW
