"""The transformers model of a configuration, all its weights of one type."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ...errors import MixedTypes
from ..families.base import Family


def make_model(family: Family, config: Any, dtype: str) -> Any:
    """The model, as the current device or tensor mode makes it, in evaluation mode.

    Published configurations name a type in one part and another, or none, in the next
    (``torch_dtype``), and transformers makes each part in its own. Here none of them counts.

    Args:
        family: of the model.
        config: of the whole model; it stays as it is.
        dtype: type of every weight, such as ``float16``.

    Raises:
        MixedTypes: the modelling code makes some weights of another type.
    """
    config = copy.deepcopy(config)
    for part in _parts(config):
        part.dtype = None
    with _default_dtype(dtype):
        model = family.make(config).eval()
    check_type(model, dtype)
    return model


def check_type(module: nn.Module, dtype: str) -> None:
    """Refuse a module that would be traced to a graph of several types of weights.

    Raises:
        MixedTypes: naming the tensors of another type.
    """
    others = {
        name: str(tensor.dtype).removeprefix("torch.")
        for name, tensor in module.named_parameters()
        if tensor.dtype != getattr(torch, dtype)
    }
    if others:
        raise MixedTypes(dtype, others)


def _parts(config: Any) -> Iterator[Any]:
    """A configuration and all that lie within it."""
    from transformers import PreTrainedConfig

    yield config
    for value in vars(config).values():
        if isinstance(value, PreTrainedConfig):
            yield from _parts(value)


@contextmanager
def _default_dtype(dtype: str) -> Iterator[None]:
    """Within, modules are made with parameters of this type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
