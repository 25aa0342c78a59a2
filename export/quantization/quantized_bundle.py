"""A bundle with quantized matrix products, made of a bundle: graphs, one weight file, manifest."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from ...runtime.bundle.bundle import Bundle
from ...runtime.bundle.contract import CHECK, language_graph
from ...runtime.bundle.manifest import FILE_NAME, FileRecord, GraphRecord, ProductsRecord
from ...runtime.engines.onnxruntime.cpu import OnnxRuntimeCpu
from ...runtime.files.tensorfile import TensorFile
from ...runtime.verify.verify import ROUNDING_TOLERANCE, verify_bundle
from ..check.cut_graph import cut_graph
from ..records import graph_file, graph_record
from ..source.shard import read_header
from ..weights.weight_file import WeightFile

_SMALL = 64
"""Bytes up to which a value stands in the graph itself."""


def write_quantized(
    bundle: Bundle,
    folder: Path,
    quantized: Mapping[str, onnx.ModelProto],
    products: ProductsRecord,
) -> None:
    """Write a bundle whose graphs are those of another, some of them quantized.

    Weights that no graph reads any more are left out. The golden sample is that of PyTorch without
    rounding; its tolerance only finds what fails, and what was measured tells how far it is off.

    Args:
        bundle: the bundle that was quantized.
        folder: an empty folder.
        quantized: file name of a graph -> the graph with its weights, as from ``quantize_graph``.
        products: what was done.

    Raises:
        VerifyFailed: a graph is further off than rounding explains.
    """
    manifest = bundle.manifest
    source = bundle.file(manifest.weights.file)
    places = _names_by_place(source)
    weights = WeightFile(manifest.language.dtype, manifest.weights.file)
    held = TensorFile(source)
    models: dict[str, tuple[ir.Model, dict[str, str]]] = {}
    for record in manifest.graphs:
        if record.name == CHECK:
            continue
        plain = ir.load(bundle.file(record.file))
        old = {
            name: places[value.const_value.offset or 0]
            for name, value in plain.graph.initializers.items()
            if isinstance(value.const_value, ir.ExternalTensor)
        }
        proto = quantized.get(record.file)
        model = plain if proto is None else ir.serde.deserialize_model(proto)
        model.graph.sort()  # the quantizer puts its nodes at the end
        models[record.file] = model, _take(model, record.file, old, products.form, held, weights)
    for name in (manifest.language.embedding, manifest.language.separator):
        if name is not None:
            weights.table(name, held.tensor(name), exact=True)
    sha256, size = weights.write(folder, None, lambda _: None)
    records = [
        _write(record, *models[record.file], weights, folder)
        for record in manifest.graphs
        if record.name != CHECK
    ]
    layers = manifest.golden.layers
    for record in manifest.graphs:
        if record.name == CHECK:
            assert layers is not None
            first, part = (graph_file(name, record.target) for name in (language_graph(0), CHECK))
            model = cut_graph(folder / first, layers, manifest.language.width, folder / part)
            records.append(graph_record(folder, CHECK, record.target, model))
    for file in manifest.files:
        shutil.copyfile(bundle.file(file.file), folder / file.file)
    made = replace(
        manifest,
        graphs=tuple(records),
        weights=FileRecord(file=manifest.weights.file, sha256=sha256, bytes=size),
        golden=replace(manifest.golden, tolerance=ROUNDING_TOLERANCE, measured=()),
        products=products,
        variants=(),
    )
    path = folder / FILE_NAME
    path.write_text(made.to_json(), encoding="utf-8")
    measured = []
    for target in made.targets():
        engine = OnnxRuntimeCpu(exact=True)
        measured += verify_bundle(Bundle(folder), engine, choice=target, verify=False)[1]
    made = replace(made, golden=replace(made.golden, measured=tuple(measured)))
    path.write_text(made.to_json(), encoding="utf-8")


def _names_by_place(path: Path) -> dict[int, str]:
    """Offset of a tensor in the file -> its name."""
    return {place.offset: place.key for place in read_header(path)}


def _take(
    model: ir.Model,
    graph: str,
    old: Mapping[str, str],
    form: str,
    held: TensorFile,
    weights: WeightFile,
) -> dict[str, str]:
    """Ask for every value of a graph that does not stand in it; initializer -> name in the file."""
    names = {}
    for key, value in model.graph.initializers.items():
        assert value.const_value is not None
        if key in old:
            names[key] = weights.table(old[key], held.tensor(old[key]), exact=True)
            continue
        base, part = _parted(key)
        # The same matrix of every target has the same numbers.
        name = f"{old.get(base, base)}.{form}.{part}" if part else f"{graph}.{key}"
        if value.const_value.dtype is ir.DataType.INT4:
            data = np.frombuffer(value.const_value.tobytes(), np.uint8)
            shape = tuple(int(dim) for dim in value.const_value.shape.numpy())
            names[key] = weights.packed(name, data, shape, "int4")
            continue
        array = value.const_value.numpy()
        if array.nbytes <= _SMALL:
            continue
        names[key] = weights.table(name, np.ascontiguousarray(array), exact=True)
    return names


def _parted(key: str) -> tuple[str, str]:
    """``W_quantized`` -> ``W`` and ``values``; likewise scales and zero points."""
    for suffix, part in (
        ("_quantized", "values"),
        ("_scale", "scales"),
        ("_zero_point", "zeros"),
    ):
        if key.endswith(suffix):
            return key.removesuffix(suffix), part
    return key, ""


def _write(
    record: GraphRecord,
    model: ir.Model,
    names: Mapping[str, str],
    weights: WeightFile,
    folder: Path,
) -> GraphRecord:
    weights.place_initializers(model, names)
    ir.save(model, folder / graph_file(record.name, record.target))
    return graph_record(folder, record.name, record.target, model)
