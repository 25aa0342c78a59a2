"""Sorting with a tie rule: of equals the lower index first, in PyTorch and in ONNX alike."""

from __future__ import annotations

import torch


def ranked(values: torch.Tensor, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Sorted values and their indices along the last axis.

    In a traced module this becomes ``TopK``, for which ONNX prescribes the tie rule; in PyTorch a
    stable sort follows it, which the exporter of torch does not know.
    """
    if torch.compiler.is_exporting():
        result = torch.sort(values, descending=descending)
    else:
        result = torch.sort(values, descending=descending, stable=True)
    return result.values, result.indices
