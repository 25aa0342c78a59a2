"""Rotary position embedding as transformers writes it -> one ``RotaryEmbedding`` (opset 23)."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from onnxscript.rewriter import pattern, rewrite


class _Rotary(pattern.RewriteRuleClassBase):
    """``x * cos + rotate_half(x) * sin`` on ``x (batch, heads, tokens, head_dim)``, where cos and
    sin are rows of the tables picked by the position ids, laid twice side by side."""

    def __init__(self) -> None:
        # cos and sin serve every layer: the matched nodes stay until nothing reads them.
        super().__init__("rotary", remove_nodes=False)

    def pattern(
        self,
        op: Any,
        x: ir.Value,
        cos: ir.Value,
        sin: ir.Value,
        positions: ir.Value,
        start: ir.Value,
        middle: ir.Value,
        end: ir.Value,
        axes: ir.Value,
        steps: ir.Value,
        head_axis: ir.Value,
    ) -> ir.Value:
        half_cos = op.Gather(cos, positions)
        half_sin = op.Gather(sin, positions)
        full_cos = op.Unsqueeze(op.Concat(half_cos, half_cos, axis=-1), head_axis)
        full_sin = op.Unsqueeze(op.Concat(half_sin, half_sin, axis=-1), head_axis)
        left = op.Slice(x, start, middle, axes, steps)
        right = op.Slice(x, middle, end, axes, steps)
        turned = op.Concat(op.Neg(right), left, axis=-1)
        return op.Add(op.Mul(x, full_cos), op.Mul(turned, full_sin))

    def check(self, context: Any, *_: Any, head_axis: ir.Value, **__: Any) -> Any:  # type: ignore[override]
        result = pattern.MatchResult()
        axis = ir.convenience.get_const_tensor(head_axis)
        if axis is None or axis.numpy().tolist() not in ([1], 1):
            return result.fail("cos and sin are not spread over the head axis", head_axis)
        return result

    def rewrite(
        self,
        op: Any,
        x: ir.Value,
        cos: ir.Value,
        sin: ir.Value,
        positions: ir.Value,
        **_: object,
    ) -> ir.Value:
        return op.RotaryEmbedding(x, cos, sin, positions)


class _RotaryOfAngles(_Rotary):
    """The same where the rows of cos and sin are put together from several (M-RoPE): they enter as
    ``(batch, tokens, head_dim / 2)``, and position ids do not."""

    def pattern(  # type: ignore[override]
        self,
        op: Any,
        x: ir.Value,
        cos: ir.Value,
        sin: ir.Value,
        start: ir.Value,
        middle: ir.Value,
        end: ir.Value,
        axes: ir.Value,
        steps: ir.Value,
        head_axis: ir.Value,
    ) -> ir.Value:
        full_cos = op.Unsqueeze(op.Concat(cos, cos, axis=-1), head_axis)
        full_sin = op.Unsqueeze(op.Concat(sin, sin, axis=-1), head_axis)
        left = op.Slice(x, start, middle, axes, steps)
        right = op.Slice(x, middle, end, axes, steps)
        turned = op.Concat(op.Neg(right), left, axis=-1)
        return op.Add(op.Mul(x, full_cos), op.Mul(turned, full_sin))

    def rewrite(  # type: ignore[override]
        self, op: Any, x: ir.Value, cos: ir.Value, sin: ir.Value, **_: object
    ) -> ir.Value:
        return op.RotaryEmbedding(x, cos, sin)


def fuse_rotary(model: ir.Model, sections: bool = False) -> int:
    """Replace every rotation of a query or a key; returns how many.

    Args:
        model: the graph.
        sections: whether the angles of a token are put together from those of several positions.
    """
    rule = _RotaryOfAngles if sections else _Rotary
    rewrite(model, pattern_rewrite_rules=[rule.rule()])
    return sum(node.op_type == "RotaryEmbedding" for node in model.graph)
