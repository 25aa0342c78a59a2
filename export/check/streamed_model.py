"""A transformers model whose large weights stay on disk and are read when their module runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from ..families.base import Family
from ..plan.typed_model import make_model
from ..source.checkpoint import Checkpoint
from ..source.dtypes import numpy_type
from ..source.shard import NUMPY_NAMES

_LARGE = 2**20
"""Elements of a tensor that is not worth keeping."""


Changes = Mapping[str, Callable[[np.ndarray], np.ndarray]]
"""Canonical name of a matrix -> what is done to it ``(out, in)`` after it was read."""


def first_layers(
    family: Family, config: Any, checkpoint: Checkpoint, layers: int, changes: Changes | None = None
) -> Any:
    """The model with its first decoder layers alone, in float32, attention unfused.

    It has neither final norm nor head: its logits are its last hidden states. Modules of large
    weights read them anew for every call, so that no more than one of them is in memory.

    Args:
        family: of the model.
        config: of the whole model.
        checkpoint: the weights.
        layers: decoder layers.
        changes: to some of the matrices.
    """
    config = copy.deepcopy(config)
    text = config.text_config
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    model = make_model(family, config, "float32").requires_grad_(False)
    model.set_attn_implementation("eager")
    parts = family.language(model)
    names = {id(module): name for name, module in model.named_modules()}
    for module in (parts.norm, parts.head):
        model.set_submodule(names[id(module)], nn.Identity())
    model.set_input_embeddings(RowsOnDisk(embedding_table(family, checkpoint)))
    for path, module in model.named_modules():
        _stream(module, path, family, checkpoint, changes or {})
    return model


def embedding_table(family: Family, checkpoint: Checkpoint) -> np.ndarray:
    """The token embeddings ``(vocab, width)``, mapped: only rows that are used are read."""
    place = checkpoint.place(family.embedding_name())
    dtype = numpy_type(NUMPY_NAMES[place.dtype])
    return np.memmap(place.path, dtype, "r", place.offset, place.shape)


class RowsOnDisk(nn.Module):
    """An embedding that reads the rows that it is asked for.

    Args:
        table: ``(vocab, width)``.
    """

    def __init__(self, table: np.ndarray) -> None:
        super().__init__()
        self._table = table

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(np.asarray(self._table[tokens.numpy()], dtype=np.float32))


def _stream(
    module: nn.Module, path: str, family: Family, checkpoint: Checkpoint, changes: Changes
) -> None:
    """Give a module its small weights, and hooks that bring the large ones and drop them again."""
    large: dict[str, tuple[str, nn.Parameter]] = {}
    for key, tensor in list(module.named_parameters(recurse=False)):
        name = family.canonical_name(f"{path}.{key}" if path else key)
        if name not in checkpoint:  # not run; the checkpoint may leave it out
            continue
        if tensor.numel() < _LARGE or list(module.children()):
            setattr(module, key, _read(checkpoint, name, changes))
        else:
            empty = torch.empty(tensor.shape, device="meta")
            large[key] = (name, nn.Parameter(empty, requires_grad=False))
            setattr(module, key, large[key][1])

    def bring(module: nn.Module, _: Any) -> None:
        for key, (name, _empty) in large.items():
            setattr(module, key, _read(checkpoint, name, changes))

    def drop(module: nn.Module, _: Any, __: Any) -> None:
        for key, (_name, empty) in large.items():
            setattr(module, key, empty)

    if large:
        module.register_forward_pre_hook(bring)
        module.register_forward_hook(drop)


def _read(checkpoint: Checkpoint, name: str, changes: Changes) -> nn.Parameter:
    array = checkpoint.array(name)
    if name in changes:
        array = changes[name](array)
    return nn.Parameter(torch.from_numpy(array), requires_grad=False)
