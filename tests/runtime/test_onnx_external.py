"""Where the tensors of an ONNX file point to, checked against the onnx package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from vtp.errors import BundleCorrupted
from vtp.runtime.files.onnx_external import external_locations

one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def tensor(location: str | None, name: str = "w") -> TensorProto:
    """A tensor in a file, or in the graph itself where there is no location."""
    made = numpy_helper.from_array(np.ones(4, np.float32), name)
    if location is not None:
        set_external_data(made, location, offset=0, length=16)
        made.ClearField("raw_data")
    return made


def model(initializers: list[TensorProto], nodes: list[Any] = (), functions: Any = ()) -> Any:  # type: ignore[assignment]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, [4])
    nodes = [*nodes, helper.make_node("Identity", ["w"], ["out"])]
    graph = helper.make_graph(nodes, "graph", [], [out], initializers)
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, functions=functions, opset_imports=imports)


def constant(location: str) -> Any:
    return helper.make_node("Constant", [], ["c"], value=tensor(location))


def branch(location: str) -> Any:
    """A node with a subgraph that has an initializer and a constant in a file."""
    out = helper.make_tensor_value_info("w", TensorProto.FLOAT, [4])
    inner = helper.make_graph([constant(f"{location}2")], "inner", [], [out], [tensor(location)])
    return helper.make_node("If", ["cond"], ["x"], then_branch=inner, else_branch=inner)


def found_in(path: Path, proto: Any) -> set[str]:
    onnx.save(proto, path)
    return external_locations(path)


def test_initializers(tmp_path: Path) -> None:
    tensors = [tensor("a.bin"), tensor("b.bin", "v"), tensor(None, "u"), tensor("a.bin", "t")]
    assert found_in(tmp_path / "m.onnx", model(tensors)) == {"a.bin", "b.bin"}


def test_a_model_without_external_data(tmp_path: Path) -> None:
    assert found_in(tmp_path / "m.onnx", model([tensor(None)])) == set()


def test_attributes_and_subgraphs_at_any_depth(tmp_path: Path) -> None:
    nested = branch("deep")
    out = helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])
    for _ in range(3):
        graph = helper.make_graph([nested], "outer", [], [out])
        nested = helper.make_node("If", ["cond"], ["x"], then_branch=graph, else_branch=graph)
    found = found_in(tmp_path / "m.onnx", model([tensor("w")], [constant("c"), nested]))
    assert found == {"w", "c", "deep", "deep2"}


def test_functions(tmp_path: Path) -> None:
    imports = [helper.make_opsetid("", 21)]
    function = helper.make_function("own", "F", [], ["c"], [constant("f.bin")], imports)
    found = found_in(tmp_path / "m.onnx", model([tensor(None)], functions=[function]))
    assert found == {"f.bin"}


@pytest.mark.parametrize("location", ["/etc/passwd", "../up", "a b", "ü.bin", "", "x" * 5000])
def test_the_location_is_told_as_it_stands(tmp_path: Path, location: str) -> None:
    assert found_in(tmp_path / "m.onnx", model([tensor(location)])) == {location}


def ways(kind: Descriptor, seen: tuple[str, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every way of fields from a message to a TensorProto, each message entered once."""
    for field in kind.fields:
        inner = field.message_type
        if inner is None or inner.name in seen:
            continue
        if inner.name == "TensorProto":
            yield (field,)
        else:
            for way in ways(inner, (*seen, inner.name)):
                yield (field, *way)


WAYS = {".".join(f.name for f in way): way for way in ways(onnx.ModelProto.DESCRIPTOR)}


@pytest.mark.parametrize("way", WAYS)
def test_every_place_where_onnx_has_a_tensor(tmp_path: Path, way: str) -> None:
    """The ways come from onnx's own schema: a place that it gains is noticed here."""
    proto = onnx.ModelProto()
    message: Any = proto
    for field in WAYS[way]:
        inner = getattr(message, field.name)
        if field.is_repeated:
            message = inner.add()
        else:
            inner.SetInParent()
            message = inner
    message.CopyFrom(tensor("hidden.bin"))
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert external_locations(path) == {"hidden.bin"}


def test_the_ways_are_those_that_onnx_is_known_for() -> None:
    assert {"graph.initializer", "graph.node.attribute.t", "functions.node.attribute.t"} <= set(
        WAYS
    )


@given(st.binary(max_size=200))
@example(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(b"\x80" * 20)
@example(b"\x3a\x01")
@one_folder
def test_random_bytes_are_read_or_refused(tmp_path: Path, data: bytes) -> None:
    refuses_or_reads(tmp_path / "m.onnx", data)


SAMPLE = model([tensor("a.bin")], [constant("c"), branch("b")]).SerializeToString()


@given(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=3))
@one_folder
def test_changed_bytes_are_read_or_refused(tmp_path: Path, at: int, new: bytes) -> None:
    refuses_or_reads(tmp_path / "m.onnx", SAMPLE[:at] + new + SAMPLE[at + len(new) :])


@given(st.integers(1, len(SAMPLE) - 1))
@one_folder
def test_a_file_that_is_cut_off(tmp_path: Path, length: int) -> None:
    refuses_or_reads(tmp_path / "m.onnx", SAMPLE[:length])


def refuses_or_reads(path: Path, data: bytes) -> None:
    """No exception but BundleCorrupted; and what the onnx package reads is read here alike."""
    path.write_bytes(data)
    try:
        proto = onnx.load_model_from_string(data)
    except Exception:  # the package raises many types
        proto = None
    try:
        found = external_locations(path)
    except BundleCorrupted:
        return
    if proto is not None:
        assert locations(proto) <= found


def locations(message: Any) -> set[str]:
    """The same by the onnx package's own reading."""
    found: set[str] = set()
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in value if field.is_repeated else [value]:
            found |= locations(inner)
            if message.DESCRIPTOR.name == "TensorProto" and field.name == "external_data":
                found |= {inner.value} if inner.key == "location" else set()
    return found


def test_nesting_without_end_is_refused(tmp_path: Path) -> None:
    data = b""
    for field in (*(6, 5, 1) * 400, 7):  # attribute.g, node.attribute, graph.node; model.graph
        size, length = b"", len(data)
        while length > 127:
            size += bytes([length & 127 | 128])
            length >>= 7
        data = bytes([field << 3 | 2]) + size + bytes([length]) + data
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(BundleCorrupted, match="nested too deep"):
        external_locations(path)
