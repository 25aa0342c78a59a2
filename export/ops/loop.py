"""Loops whose number of steps is known only at run time: an ONNX ``Loop``, the same code in
PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._higher_order_ops.while_loop import while_loop_op

State = tuple[torch.Tensor, ...]


def loop_down(
    left: torch.Tensor,
    step: Callable[..., State],
    state: State,
    fixed: State,
) -> State:
    """Repeat ``left, *state = step(left, *state, *fixed)`` as long as ``left`` is above 0.

    Args:
        left: ``(1,)`` int64, what is left to do.
        step: shapes and dtypes never change from step to step; nothing that is passed in may be
            written to, or returned as it is.
        state: what the steps change.
        fixed: what they only read.

    Returns:
        The last state, without ``left``.
    """

    def going(left: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        return (left > 0).all()

    if torch.compiler.is_exporting():
        # The operator behind torch.while_loop, which itself would compile the loop first.
        result: State = while_loop_op(going, step, (left, *state), fixed)
        return result[1:]
    while bool(going(left)):
        left, *rest = step(left, *state, *fixed)
        state = tuple(rest)
    return state
