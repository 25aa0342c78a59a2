"""One ONNX node in a traced graph."""

from __future__ import annotations

from typing import Any

import torch


def node(
    operator: str,
    inputs: tuple[torch.Tensor | None, ...],
    attributes: dict[str, Any],
    outputs: tuple[tuple[torch.dtype, tuple[int | torch.SymInt, ...]], ...],
) -> tuple[torch.Tensor, ...]:
    """Put a node into the graph that is being traced.

    Args:
        operator: ``domain::Type``; an empty domain is standard ONNX.
        inputs: tensors, ``None`` for an absent optional input.
        attributes: node attributes.
        outputs: dtype and shape of every output.
    """
    return tuple(
        torch.onnx.ops.symbolic_multi_out(
            operator,
            inputs,
            attrs=attributes,
            dtypes=tuple(dtype for dtype, _ in outputs),
            shapes=tuple(shape for _, shape in outputs),
            version=1,
        )
    )
