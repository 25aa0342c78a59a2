"""A graph is traced once, and every target's operators compute what the neutral ones mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from vtp.errors import GraphNotLowered
from vtp.export import ExportOptions, export_model
from vtp.export.graphs.neutral import NeutralGraph
from vtp.export.graphs.trace_cache import VARIABLE
from vtp.export.targets import TARGETS, make_target
from vtp.export.targets.base import lower

HEADS, KV_HEADS, SIZE, SCALE = 4, 2, 8, 0.3
CAPACITY = 12


def softmax_attention(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Attention by its definition, head by head; ``(batch, tokens, heads, head_dim)``."""
    batch, heads, tokens, size = query.shape
    out = np.zeros((batch, tokens, heads, size), np.float64)
    for sequence in range(batch):
        for head in range(heads):
            shared = head // (heads // key.shape[1])
            logits = query[sequence, head] @ key[sequence, shared].T * SCALE
            logits = np.where(mask, logits, -np.inf)
            weights = np.exp(logits - logits.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out[sequence, :, head] = weights @ value[sequence, shared]
    return out


def value(name: str, shape: tuple[str | int, ...], dtype: Any = ir.DataType.FLOAT) -> ir.Value:
    return ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype))


def neutral(inputs: list[ir.Value], node: ir.Node) -> NeutralGraph:
    graph = ir.Graph(inputs, node.outputs, nodes=[node], opset_imports={"": 20}, name="test")
    return NeutralGraph(name="test", model=ir.Model(graph, ir_version=10))


def run(graph: NeutralGraph, target: str, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    lowered = lower(graph, make_target(target))
    session = onnxruntime.InferenceSession(ir.to_proto(lowered).SerializeToString())
    wanted = {each.name for each in session.get_inputs()}
    outputs: list[np.ndarray] = session.run(None, {k: v for k, v in feeds.items() if k in wanted})
    return outputs


def cached_attention() -> NeutralGraph:
    inputs = [
        value("hidden_states", ("batch", "tokens", 16)),
        value("query", ("batch", HEADS, "tokens", SIZE)),
        value("key", ("batch", KV_HEADS, "tokens", SIZE)),
        value("value", ("batch", KV_HEADS, "tokens", SIZE)),
        value("past_key_values.0.key", ("batch", KV_HEADS, "capacity", SIZE)),
        value("past_key_values.0.value", ("batch", KV_HEADS, "capacity", SIZE)),
        value("write_index", ("batch",), ir.DataType.INT64),
    ]
    node = ir.node("CachedAttention", inputs[1:], {"scale": SCALE}, domain="vtp", num_outputs=3)
    shapes = [("batch", "tokens", HEADS, SIZE), *[("batch", KV_HEADS, "capacity", SIZE)] * 2]
    names = ("out", "present.0.key", "present.0.value")
    for out, name, shape in zip(node.outputs, names, shapes, strict=True):
        out.name, out.shape, out.type = name, ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return neutral(inputs, node)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("filled", "tokens"), [(0, 5), (4, 3), (7, 1), (7, 5)])
def test_cached_attention(target: str, filled: int, tokens: int) -> None:
    random = np.random.default_rng(filled + tokens)
    # GroupQueryAttention reads several rows behind others for one sequence only.
    batch = 1 if filled and tokens > 1 else 2

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    query = drawn(batch, HEADS, tokens, SIZE)
    new = [drawn(batch, KV_HEADS, tokens, SIZE) for _ in range(2)]
    past = [drawn(batch, KV_HEADS, filled, SIZE) for _ in range(2)]
    keys, values = (np.concatenate(pair, axis=2) for pair in zip(past, new, strict=True))
    mask = np.arange(filled + tokens)[None] <= filled + np.arange(tokens)[:, None]
    feeds = {
        "hidden_states": drawn(batch, tokens, 16),
        "query": query,
        "key": new[0],
        "value": new[1],
        "write_index": np.full(batch, filled),
    }
    appended = target == "trt10"
    for kind, rows in zip(("key", "value"), past, strict=True):
        whole = drawn(batch, KV_HEADS, CAPACITY, SIZE)  # rows behind the filled ones are garbage
        whole[:, :, :filled] = rows
        feeds[f"past_key_values.0.{kind}"] = rows.swapaxes(1, 2) if appended else whole
    out, *present = run(cached_attention(), target, feeds)
    np.testing.assert_allclose(out, softmax_attention(query, keys, values, mask), atol=2e-6)
    for found, wanted, given in zip(present, (keys, values), new, strict=True):
        if appended:
            np.testing.assert_array_equal(found, given.swapaxes(1, 2))
        else:
            np.testing.assert_array_equal(found[:, :, : filled + tokens], wanted)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("windows", [False, True])
def test_vision_attention(target: str, windows: bool) -> None:
    tokens = 6
    inputs = [value(name, ("images", HEADS, "tokens", SIZE)) for name in ("query", "key", "value")]
    inputs += [value("mask", ("tokens", "tokens"), ir.DataType.BOOL)] if windows else []
    node = ir.node("VisionAttention", inputs, {"scale": SCALE}, domain="vtp")
    (out,) = node.outputs
    out.name, out.type = "out", ir.TensorType(ir.DataType.FLOAT)
    out.shape = ir.Shape(("images", "tokens", HEADS, SIZE))
    random = np.random.default_rng(7)
    query, key, values = random.standard_normal((3, 2, HEADS, tokens, SIZE)).astype(np.float32)
    place = np.arange(tokens) // 2
    mask = place[:, None] == place[None] if windows else np.ones((tokens, tokens), bool)
    feeds = {"query": query, "key": key, "value": values, "mask": mask}
    (found,) = run(neutral(inputs, node), target, feeds)
    np.testing.assert_allclose(found, softmax_attention(query, key, values, mask), atol=2e-6)


def test_lowering_leaves_the_neutral_graph_as_it_was() -> None:
    graph = cached_attention()
    first = ir.to_proto(graph.model).SerializeToString(deterministic=True)
    for target in TARGETS:
        lower(graph, make_target(target))
    assert ir.to_proto(graph.model).SerializeToString(deterministic=True) == first


def test_an_operator_that_no_engine_knows_is_refused() -> None:
    class Forgetful:
        name, opset, dtypes, zero_points = "forgetful", 24, ("float32",), False

        def lower(self, model: ir.Model, graph: NeutralGraph) -> None:
            """Lowers nothing."""

    with pytest.raises(GraphNotLowered, match="CachedAttention"):
        lower(cached_attention(), Forgetful())


@pytest.mark.slow
def test_each_graph_is_traced_once_for_all_targets(
    random_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced: Counter[str] = Counter()
    export = torch.export.export

    def counted(module: torch.nn.Module, *arguments: Any, **options: Any) -> Any:
        traced[type(module).__name__] += 1
        return export(module, *arguments, **options)

    monkeypatch.setattr(torch.export, "export", counted)
    monkeypatch.delenv(VARIABLE)
    options = ExportOptions(
        method="pyramiddrop",
        parameters={"layers": (1,), "ratios": (0.5,)},
        targets=tuple(TARGETS),
    )
    manifest = export_model(str(random_llava), tmp_path / "out", options)
    stages = len(manifest.plan.stages)
    assert stages == 2
    assert traced == {"VisionGraph": 1, "LanguageStage": stages, "DropGraph": stages - 1}
    assert len(manifest.graphs) == 3 * sum(traced.values())
