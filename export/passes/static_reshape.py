"""Reshapes whose target is computed from Shape nodes -> reshapes with a constant target.

With the token count symbolic, the tracer computes the target of every reshape at run time. Where
the known shapes say that an axis is only carried over, ONNX can say so itself: 0 copies the axis.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .builder import constant


def make_reshapes_static(model: ir.Model) -> int:
    """Simplify the reshapes between values of known shapes; returns how many.

    1. A reshape of a reshape reads the first one's input.
    2. A reshape to the shape that its input has is dropped.
    3. A reshape whose axes are fixed, carried over, or the one rest gets a constant target.
    """
    changed = 0
    for node in list(model.graph):
        if node.op_type != "Reshape" or node.domain:
            continue
        source, result = node.inputs[0], node.outputs[0]
        if source is None or source.shape is None or result.shape is None:
            continue
        before = source.producer()
        if before is not None and before.op_type == "Reshape":
            earlier = before.inputs[0]
            if earlier is not None and _target(earlier, result) is not None:
                source = earlier
        if source.shape == result.shape and result not in model.graph.outputs:
            ir.convenience.replace_all_uses_with(result, source)
            changed += 1
            continue
        target = _target(source, result)
        if target is None:
            continue
        node.replace_input_with(0, source)
        node.replace_input_with(1, constant(model.graph, np.array(target, dtype=np.int64)))
        node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)
        changed += 1
    return changed


def _target(source: ir.Value, result: ir.Value) -> list[int] | None:
    if source.shape is None or result.shape is None:
        return None
    target: list[int] = []
    for axis, dim in enumerate(result.shape):
        carried = source.shape[axis] if axis < len(source.shape) else None
        if isinstance(dim, int):
            target.append(dim)
        elif dim.value is not None and carried == dim:
            target.append(0)
        else:
            target.append(-1)
    return target if target.count(-1) <= 1 else None
