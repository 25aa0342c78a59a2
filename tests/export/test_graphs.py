"""What the exported graphs contain, and what they must not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from safetensors import safe_open

from vtp.export.targets import TARGETS
from vtp.runtime import Bundle
from vtp.runtime.bundle.manifest import Manifest

LAYERS = 3
WIDTH = 64
TOKENS = 144


@pytest.fixture(scope="module")
def bundle(exported: Callable[..., Path]) -> Bundle:
    return Bundle(exported("grouped-query"))


def graph(bundle: Bundle, name: str, target: str) -> ir.Graph:
    return ir.load(bundle.file(bundle.manifest.graph(name, target).file)).graph


def operators(graph: ir.Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph)


@pytest.mark.parametrize(
    ("target", "operator"), [("ort", "MultiHeadAttention"), ("onnx", "Attention")]
)
def test_vision_attention_is_one_operator_a_layer_and_later_layers_are_absent(
    bundle: Bundle, target: str, operator: str
) -> None:
    # Four layers, features of the second to last: three are run.
    vision = graph(bundle, "vision", target)
    assert operators(vision)[operator] == 3
    assert not any(".layers.3." in name for name in vision.initializers)
    assert not any("post_layernorm" in name for name in vision.initializers)


@pytest.mark.parametrize("target", ["ort", "onnx"])
def test_scores_come_from_one_row_of_one_layer(bundle: Bundle, target: str) -> None:
    vision = graph(bundle, "vision", target)
    (softmax,) = [node for node in vision if node.op_type == "Softmax"]
    assert softmax.inputs[0].shape is not None
    _, heads, rows, columns = softmax.inputs[0].shape
    assert (heads, rows, columns) == (2, 1, TOKENS + 1)


@pytest.mark.parametrize("target", ["ort", "onnx"])
def test_only_kept_tokens_are_projected(bundle: Bundle, target: str) -> None:
    vision = graph(bundle, "vision", target)
    (select,) = [node for node in vision if node.op_type == "TopKTokens"]
    assert select.domain == "vtp"
    assert select.attributes["plugin_namespace"].as_string() == "vtp"
    assert list(select.attributes["tensorrt_plugin_shape_input_indices"].as_ints()) == [2]
    # What reads the projector's first matrix reads the selection.
    (product,) = [
        node
        for node in vision
        if node.op_type == "MatMul" and "projector.linear_1" in str(node.inputs[1].name)
    ]
    assert product.inputs[0] is select.outputs[0]


def test_a_decoder_layer_is_fifteen_nodes_for_onnx_runtime(bundle: Bundle) -> None:
    counts = operators(graph(bundle, "language.0", "ort"))
    assert counts["GroupQueryAttention"] == LAYERS
    assert counts["RMSNormalization"] == 2 * LAYERS + 1
    assert counts["MatMul"] == 7 * LAYERS
    assert not {"Transpose", "Reshape", "RotaryEmbedding", "Slice", "Concat"} & set(counts)
    # Beside the layers: the last norm and head, and what the cache's length is computed from.
    assert sum(counts.values()) - 15 * LAYERS == 10


def test_the_standard_target_masks_explicitly(bundle: Bundle) -> None:
    language = graph(bundle, "language.0", "onnx")
    attention = [node for node in language if node.op_type == "Attention"]
    assert len(attention) == LAYERS
    masks = {node.inputs[3] for node in attention}
    assert len(masks) == 1
    assert all("is_causal" not in node.attributes for node in attention)
    assert operators(language)["TensorScatter"] == 2 * LAYERS
    assert operators(language)["RotaryEmbedding"] == 2 * LAYERS
    assert {node.domain for node in language} == {""}


@pytest.mark.parametrize("name", ["vision", "language.0"])
def test_the_standard_target_passes_the_checker(bundle: Bundle, name: str) -> None:
    record = bundle.manifest.graph(name, "onnx")
    onnx.checker.check_model(str(bundle.file(record.file)), full_check=False)
    assert record.opset == 24


@pytest.mark.parametrize("target", ["ort", "onnx"])
def test_logits_are_computed_for_the_last_position_only(bundle: Bundle, target: str) -> None:
    language = graph(bundle, "language.0", target)
    (head,) = [node for node in language if node.op_type == "Gemm"]
    assert language.outputs[0].producer() is head
    assert head.inputs[0].shape is not None
    assert len(head.inputs[0].shape) == 2


def test_all_targets_share_one_weight_file(bundle: Bundle) -> None:
    manifest: Manifest = bundle.manifest
    with safe_open(bundle.file(manifest.weights.file), "np") as file:
        stored = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    used: dict[str, set[tuple[int, int]]] = {}
    for record in manifest.graphs:
        for value in graph(bundle, record.name, record.target).initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                assert tensor.location == manifest.weights.file
                used.setdefault(record.name, set()).add((tensor.offset, tensor.length))
            else:
                assert tensor is not None
                assert tensor.nbytes < 1024
    # Everything stored is read by some graph, but for the embedding table; nothing twice.
    places = used["vision"] | used["language.0"]
    assert len(stored) == len(places) + 1
    assert sum(length for _, length in places) < manifest.weights.bytes


def test_a_tied_head_is_stored_once(exported: Callable[..., Path]) -> None:
    bundle = Bundle(exported("tied-head"))
    with safe_open(bundle.file("weights.safetensors"), "np") as file:
        wide = [n for n in file.keys() if file.get_slice(n).get_shape() == [128, WIDTH]]  # noqa: SIM118
    assert wide == ["language_model.embed_tokens.weight"]


def test_graph_files_do_not_tell_where_they_were_made(bundle: Bundle) -> None:
    for record in bundle.manifest.graphs:
        data = bundle.file(record.file).read_bytes()
        assert b"site-packages" not in data
        assert b".py" not in data


def test_the_manifest_tells_shapes_as_they_are_in_the_graphs(bundle: Bundle) -> None:
    for record in bundle.manifest.graphs:
        found = graph(bundle, record.name, record.target)
        for specs, values in ((record.inputs, found.inputs), (record.outputs, found.outputs)):
            assert [spec.name for spec in specs] == [value.name for value in values]
            for spec, value in zip(specs, values, strict=True):
                assert value.dtype is not None
                assert np.dtype(spec.dtype) == value.dtype.numpy()
                assert value.shape is not None
                shape = [d if isinstance(d, int) else d.value for d in value.shape]
                assert list(spec.shape) == shape
    vision = bundle.manifest.graph("vision", "ort")
    assert {spec.name: spec.shape for spec in vision.outputs} == {
        "image_embeds": ("images", "keep", WIDTH),
        "kept": ("images", "keep"),
        "scores": ("images", TOKENS),
    }


def test_what_was_measured_at_export_is_in_the_manifest(bundle: Bundle) -> None:
    measured = bundle.manifest.golden.measured
    assert {(d.graph, d.target) for d in measured} == {
        (name, target) for name in ("vision", "language.0") for target in TARGETS
    }
    assert all(0 <= d.mean_abs <= d.max_abs < 1e-3 and d.cosine > 0.9999 for d in measured)
    assert {case.keep for case in bundle.manifest.golden.cases} == {(1.0,), (0.25,)}
