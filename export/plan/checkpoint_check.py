"""What is found out before anything is traced or written: do the weights fit the model, and does
the bundle fit the disk."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import DiskFull, WeightsMismatch
from ..families.base import Family
from ..parts.language import LanguageParts
from ..parts.vision import VisionParts
from ..source.checkpoint import Checkpoint

_HARMLESS = re.compile(r"(inv_freq|position_ids)$")
"""Tables that older checkpoints hold and that follow from the configuration."""


def check_checkpoint(
    checkpoint: Checkpoint, family: Family, model: Any, *parts: VisionParts | LanguageParts
) -> None:
    """Compare names and shapes with the model that config.json makes.

    Missing is what the graphs need. Tensors of layers that are not exported may be missing or be
    there; what the model's class does not know at all may not.

    Args:
        checkpoint: the weights.
        family: of the model.
        model: the transformers model, on fake tensors.
        parts: its vision and language sides.

    Raises:
        WeightsMismatch: naming the first tensors that are missing, unknown or of another shape.
    """
    wrong = [
        f"{name} is {found}, but config.json says {asked}"
        for name, asked in _named_shapes(family, model)
        if name in checkpoint and (found := checkpoint.shape(name)) != asked
    ]
    missing, extra = _missing_and_extra(checkpoint, family, model, *parts)
    if missing or extra or wrong:
        raise WeightsMismatch(checkpoint.folder, missing, extra, wrong)


def check_index(
    folder: Path,
    keys: Iterable[str],
    family: Family,
    model: Any,
    *parts: VisionParts | LanguageParts,
) -> None:
    """As ``check_checkpoint``, by the names of the tensors alone, before the weights are there.

    Raises:
        WeightsMismatch: naming the first tensors that are missing or unknown.
    """
    names = {family.canonical_name(key) for key in keys}
    missing, extra = _missing_and_extra(names, family, model, *parts)
    if missing or extra:
        raise WeightsMismatch(folder, missing, extra, [])


def _named_shapes(family: Family, model: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    for key, tensor in model.named_parameters(remove_duplicate=False):
        yield family.canonical_name(key), tuple(tensor.shape)


def _missing_and_extra(
    found: Collection[str], family: Family, model: Any, *parts: VisionParts | LanguageParts
) -> tuple[list[str], list[str]]:
    needed = {id(tensor) for tensor in needed_tensors(family, model, *parts)}
    names: dict[int, list[str]] = {}
    for key, tensor in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(tensor), []).append(family.canonical_name(key))
    missing = [
        aliases[0]
        for tensor, aliases in names.items()
        if tensor in needed and not any(alias in found for alias in aliases)
    ]
    known = {name for aliases in names.values() for name in aliases}
    known |= {family.canonical_name(key) for key, _ in model.named_buffers()}
    ignored = [
        re.compile(p) for p in getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
    ]
    extra = [
        name
        for name in found
        if name not in known and not any(p.search(name) for p in (_HARMLESS, *ignored))
    ]
    return missing, sorted(extra)


def needed_tensors(
    family: Family, model: Any, *parts: VisionParts | LanguageParts
) -> Iterator[Tensor]:
    """Parameters of what is exported; one that several modules share comes several times."""
    yield from model.get_input_embeddings().parameters()
    separator = family.separator(model)
    if separator is not None:
        yield separator
    for part in parts:
        for value in vars(part).values():
            if isinstance(value, nn.Module):
                yield from value.parameters()
            elif isinstance(value, nn.Parameter):
                yield value


def check_room(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Args:
        folder: where the bundle is made.
        needed: bytes that its weights will take.

    Raises:
        DiskFull: with both numbers.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskFull(folder, needed, free)
