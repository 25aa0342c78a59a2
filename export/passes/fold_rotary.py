"""``RotaryEmbedding`` before ONNX Runtime's attention operator -> the operator's own rotation."""

from __future__ import annotations

import onnx_ir as ir

_WITH_POSITIONS = 4
"""Inputs of a rotation that looks its angles up by position, as the operator does."""
_HEAD_SIZES = 16
"""The operator rotates heads whose size is a multiple of this only."""


def fold_rotary_into_attention(model: ir.Model) -> int:
    """Where query and key of a ``GroupQueryAttention`` are rotated by the same tables and
    positions, let the operator do it; returns how many.

    The rotated tensor is ``(batch, heads, tokens, head_dim)`` between a transpose and its inverse;
    the operator takes ``(batch, tokens, heads * head_dim)``, so both fall away.
    """
    folded = 0
    for node in list(model.graph):
        if node.op_type != "GroupQueryAttention" or len(node.inputs) != 7:
            continue
        query, key = _before_rotation(node.inputs[0]), _before_rotation(node.inputs[1])
        if query is None or key is None or query[1] != key[1]:
            continue
        cos = query[1][0]
        half = cos.shape[-1] if cos is not None and cos.shape is not None else None
        if not isinstance(half, int) or 2 * half % _HEAD_SIZES:
            continue
        fused = ir.node(
            "GroupQueryAttention",
            [query[0], key[0], *node.inputs[2:], *query[1]],
            attributes={**node.attributes, "do_rotary": ir.AttrInt64("do_rotary", 1)},
            domain=node.domain,
            num_outputs=len(node.outputs),
            name=node.name,
        )
        ir.convenience.replace_nodes_and_values(
            model.graph, node, [node], [fused], node.outputs, fused.outputs
        )
        folded += 1
    return folded


def _before_rotation(
    value: ir.Value | None,
) -> tuple[ir.Value, tuple[ir.Value | None, ...]] | None:
    """The projected rows, and (cos, sin, positions), behind ``reshape(transpose(rotary(transpose(
    reshape(rows)))))``."""
    chain: list[ir.Node] = []
    for op in ("Reshape", "Transpose", "RotaryEmbedding", "Transpose", "Reshape"):
        node = value.producer() if value is not None else None
        if node is None or node.op_type != op:
            return None
        if op == "RotaryEmbedding" and len(node.inputs) < _WITH_POSITIONS:
            return None
        chain.append(node)
        value = node.inputs[0]
    if any(list(n.attributes["perm"].as_ints()) != [0, 2, 1, 3] for n in (chain[1], chain[3])):
        return None
    return (value, tuple(chain[2].inputs[1:4])) if value is not None else None
