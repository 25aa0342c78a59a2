"""RMSNorm as transformers writes it -> one ``RMSNormalization`` (ONNX opset 23)."""

from __future__ import annotations

import onnx_ir as ir
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.fusion import _rms_normalization


def fuse_rms_norm(model: ir.Model) -> int:
    """Replace every ``scale * x * rsqrt(mean(x^2) + epsilon)``; returns how many."""
    before = _count(model)
    rewrite(model, pattern_rewrite_rules=_rms_normalization.rms_normalization_ruleset)
    return _count(model) - before


def _count(model: ir.Model) -> int:
    return sum(node.op_type == "RMSNormalization" for node in model.graph)
