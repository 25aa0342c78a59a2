"""What is left of an image behind the vision graph, in the order in which the prompt reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..preprocessing.base import SEPARATOR, Medium


@dataclass(frozen=True, kw_only=True, eq=False)
class Arranged:
    """The image tokens of one image or video as they stand in the prompt."""

    rows: np.ndarray
    """``(m,)`` int64: row of each token among all image embeddings, or ``SEPARATOR``."""
    entries: np.ndarray
    """``(m,)`` int64: its place in the unpruned sequence; -1 for a token that has none."""
    offsets: np.ndarray
    """``(axes, m)`` int64: number of each, relative to the first token's, if nothing had been
    dropped."""
    span: int
    """How far the numbers of what follows would be ahead of the first token's."""

    @property
    def compact(self) -> Arranged:
        """The same, numbered without gaps."""
        axes, count = self.offsets.shape
        numbers = np.tile(np.arange(count), (axes, 1))
        return Arranged(rows=self.rows, entries=self.entries, offsets=numbers, span=count)


def arrange(medium: Medium, kept: Sequence[np.ndarray], first: int, resampled: int = 0) -> Arranged:
    """Lay out what the vision graph kept of an image.

    A separator always stays. A token that the unpruned sequence leaves out, as padding, goes.

    Args:
        medium: the image, as it was preprocessed.
        kept: for each tile ``(k,)`` the tokens that stay; -1 for one that stands for none.
        first: row of the first of them among all image embeddings.
        resampled: row of the first of the tokens that were made of others (``Medium.resample``).
    """
    if len(kept) == 1 and _is_plain(medium):
        (entries,) = kept
        rows = first + np.arange(len(entries))
        # A token that stands for no patch ([CLS]) takes the image's first number.
        offsets = medium.offsets[:, np.maximum(entries, 0)]
        return Arranged(rows=rows, entries=np.asarray(entries), offsets=offsets, span=medium.span)
    lead, tokens = medium.lead, medium.tile_tokens
    row_of = np.full(len(medium.pixels) * (lead + tokens), -1, dtype=np.int64)
    for tile, chosen in enumerate(kept):
        at, rows = tile * (lead + tokens), first + np.arange(len(chosen))
        stand = chosen >= 0
        row_of[at + lead + chosen[stand]] = rows[stand]
        if stand.sum() == tokens:
            row_of[at : at + lead] = rows[:lead]
        first += len(chosen)
    if medium.resample is not None:
        row_of = np.concatenate([row_of, resampled + np.arange(len(medium.resample.index))])
    order = medium.order
    row = np.where(order == SEPARATOR, SEPARATOR, row_of[order])
    entries = np.flatnonzero((order == SEPARATOR) | (row >= 0))
    return Arranged(
        rows=row[entries],
        entries=entries,
        offsets=medium.offsets[:, entries],
        span=medium.span,
    )


def by_entry(medium: Medium, scores: Sequence[np.ndarray]) -> np.ndarray:
    """Scores of tiles, each ``(tokens,)``, as ``(n,)`` in the order of the unpruned sequence.

    A separator or [CLS], which has none, comes last.
    """
    lowest = np.finfo(np.float32).min
    led = [np.concatenate([np.full(medium.lead, lowest), of_tile]) for of_tile in scores]
    if medium.resample is not None:
        index, weight = medium.resample.index, medium.resample.weight
        led.append((np.concatenate(led)[index] * weight).sum(axis=1))
    picked: np.ndarray = np.where(
        medium.order == SEPARATOR, lowest, np.concatenate(led)[medium.order]
    ).astype(np.float32)
    return picked


def _is_plain(medium: Medium) -> bool:
    """Whether the prompt reads the tokens of the one tile as the tower gives them."""
    order = medium.order
    return len(order) == medium.tile_tokens and bool((order == np.arange(len(order))).all())
