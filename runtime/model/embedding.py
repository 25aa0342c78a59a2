"""Rows of the embedding table."""

from __future__ import annotations

import numpy as np

from ...errors import BundleCorrupted
from ..files.tensorfile import float32_of


def embedding_rows(table: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Rows ``(n, width)`` float32 of an embedding table, for token ids ``(n,)``.

    Raises:
        BundleCorrupted: an id that the table does not have.
    """
    try:
        rows = float32_of(table[tokens])
    except IndexError:
        raise BundleCorrupted(
            "tokenizer.json", f"gives token {tokens.max()}, but the model knows {len(table)}"
        ) from None
    return rows
