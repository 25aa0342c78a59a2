"""Target ``trt10`` uses only what the ONNX parser of TensorRT 10.1 lists as supported.

The list is that of the parser's own documentation (onnx-tensorrt 10.1-GA, docs/operators.md):
operator sets up to 20. That parser refuses no newer one, and reads ``DequantizeLinear`` of blocks,
which set 21 brought, by the shape of its scales.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from vtp.runtime.bundle.bundle import Bundle

from .test_tensorrt_rtx import BUNDLES

SUPPORTED = set(
    (Path(__file__).parents[1] / "tensorrt_api" / "onnx_operators_10.1.txt").read_text().split()
)
NEWEST_OPSET, BLOCK_OPSET = 20, 21


def nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph or function, those of loop bodies too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from nodes(attribute.g)


def test_the_list_is_that_of_an_old_parser() -> None:
    assert {"MatMul", "GatherND", "Loop", "TopK"} <= SUPPORTED
    assert not {"Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter"} & SUPPORTED


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_every_operator_is_supported(exported: Callable[..., Path], name: str) -> None:
    model, method, options = BUNDLES[name]
    bundle = Bundle(exported(model, method, **options))
    records = [record for record in bundle.manifest.graphs if record.target == "trt10"]
    assert records
    for record in records:
        graph = onnx.load(str(bundle.file(record.file)), load_external_data=False)
        versions = {entry.domain: entry.version for entry in graph.opset_import}
        quantized = bundle.manifest.language.weights is not None and record.name != "vision"
        assert versions.pop("") <= (BLOCK_OPSET if quantized else NEWEST_OPSET)
        assert set(versions) <= {"vtp"}
        used = [*nodes(graph.graph), *(n for body in graph.functions for n in nodes(body))]
        assert {n.op_type for n in used if n.domain == ""} <= SUPPORTED, record.name
        assert {n.op_type for n in used if n.domain} <= {"TopKTokens"}, record.name
        # The parser's limits: sorted results only, and one output of the norm.
        for node in used:
            attributes = {a.name: a.i for a in node.attribute}
            assert node.op_type != "TopK" or attributes.get("sorted", 1) == 1
            assert node.op_type != "LayerNormalization" or len(node.output) == 1
