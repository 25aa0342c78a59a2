"""What is known of one published repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..checkpoints.sizes import Size
from .tokens import Tokens

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Repository:
    """The files of a repository, for its own dimensions or for small ones."""

    family: str
    size: str
    """Key of ``checkpoint_sizes.SIZES[family]``: the published dimensions."""
    config: Callable[[Size, Mapping[str, int]], Json]
    """config.json, from dimensions and token ids."""
    generation: Json
    """generation_config.json; token ids by name are replaced by numbers."""
    processors: Callable[[Size], Mapping[str, Json]]
    """Files that say what is done to images and videos -> their contents."""
    template: str
    """The chat template."""
    template_files: tuple[str, ...]
    """Where it stands: ``chat_template.json``, ``chat_template.jinja``,
    ``tokenizer_config.json``."""
    tokens: Tokens
    """The tokenizer."""
    keys: Callable[[str], str]
    """Name of a tensor in transformers' model -> in the file."""
    stored_head: bool = True
    """Whether the head is stored beside the embedding table."""
    shards: int
    dtype: str
    """Type of the weights on the hub, whatever its configurations say."""
    read: str
    """What of this was read, and where; the rest is from memory or inferred."""
