"""The files of a repository beside its weights, and the shapes of those."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checkpoints.sizes import SIZES, Size, Tower
from .repository import Repository

_SMALL_ROWS, _SMALL_BEHIND = 512, 64


def size_of(repository: Repository, small: bool) -> tuple[Size, int]:
    """Dimensions, and tokens of the tokenizer's base.

    Args:
        repository: the repository.
        small: small ones, of the same form.
    """
    published = SIZES[repository.family][repository.size]
    base = repository.tokens.base
    if not small:
        return published, base
    behind = min(repository.tokens.rows_behind(published.text.vocab), _SMALL_BEHIND)
    # InternVL makes one token of two by two patches.
    side = 112 if repository.family == "internvl" else 56
    tower = Tower(layers=4, width=64, heads=4, inner=128, image=side)
    text = replace(
        published.text, layers=3, width=64, heads=4, kv_heads=2, inner=128, vocab=_SMALL_ROWS
    )
    return Size(tower=tower, text=text), _SMALL_ROWS - behind


def write_files(repository: Repository, folder: Path, small: bool) -> None:
    """Write all but the weights."""
    size, base = size_of(repository, small)
    ids = repository.tokens.ids(base)
    files: dict[str, Any] = {
        "config.json": repository.config(size, ids),
        "generation_config.json": _numbered(repository.generation, ids),
        **repository.processors(size),
    }
    texts = {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}
    texts |= repository.tokens.write(base)
    for name in repository.template_files:
        if name.endswith(".jinja"):
            texts[name] = repository.template
        else:
            found = json.loads(texts.get(name, "{}"))
            texts[name] = json.dumps(found | {"chat_template": repository.template}, indent=2)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def stored_shapes(repository: Repository, folder: Path) -> dict[str, tuple[int, ...]]:
    """Tensors in the weight files -> their shapes, by the config.json that was written."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText
    from transformers.utils import logging

    logging.set_verbosity_error()
    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if not repository.stored_head:
        del shapes["lm_head.weight"]
    named = {repository.keys(name): shape for name, shape in shapes.items()}
    return dict(sorted(named.items()))


def _numbered(generation: Mapping[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """Tokens in the places of ids -> their ids."""

    def number(value: Any) -> Any:
        if isinstance(value, list):
            return [number(item) for item in value]
        return ids.get(value, value) if isinstance(value, str) else value

    return {
        key: number(value) if key.endswith("_token_id") else value
        for key, value in generation.items()
    }
