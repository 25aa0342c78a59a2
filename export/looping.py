"""Loops whose number of steps is known only at run time: one ONNX ``Loop``, the same code in
PyTorch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._higher_order_ops.while_loop import while_loop_op

State = tuple[torch.Tensor, ...]


def loop_while(
    going: Callable[..., torch.Tensor],
    step: Callable[..., State],
    state: State,
    fixed: State,
) -> State:
    """Repeat ``state = step(*state, *fixed)`` as long as ``going(*state, *fixed)``.

    Args:
        going: gives one truth value, shape ``()``.
        step: gives the next state. Shapes and dtypes of a state never change, and nothing that was
            passed in is returned as it is or written to.
        state: what the steps change.
        fixed: what they only read.
    """
    if torch.compiler.is_exporting():
        result: State = while_loop_op(going, step, state, fixed)
        return result
    while bool(going(*state, *fixed)):
        state = step(*state, *fixed)
    return state
