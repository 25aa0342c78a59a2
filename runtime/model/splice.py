"""Put kept image embeddings where the prompt's image tokens stand, and number the tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from ..engines.base import Buffer
from ..preprocessing.base import SEPARATOR
from .arrange import Arranged
from .decoder import Decoder
from .token_placement import SplicedPrompt, TokenPlacement


def splice(
    decoder: Decoder,
    tokens: Sequence[int],
    placeholders: Collection[int],
    images: Sequence[Buffer] = (),
    arranged: Sequence[Arranged] = (),
    start: int = 0,
) -> SplicedPrompt:
    """Embeddings of a turn, and where its image tokens stand.

    Args:
        decoder: embeds text tokens, owns the engine and knows the plan.
        tokens: token ids, one placeholder for each image.
        placeholders: ids that stand for an image or a video.
        images: image embeddings, ``(tiles, kept, row_width)`` each; their rows count on from one
            to the next.
        arranged: what is left of each image, in the order of their places.
        start: number of the first token.
    """
    ids = np.array(tokens, dtype=np.int64)
    places = np.flatnonzero(np.isin(ids, list(placeholders))).tolist()
    if decoder.plan.positions != "original":
        arranged = [one.compact for one in arranged]
    length = len(ids) - len(places) + sum(len(one.rows) for one in arranged)
    embeds = decoder.engine.buffer((1, length, decoder.row_width), "float32")
    axes = decoder.language.position_axes
    rows, positions = [], []
    at, begin, number = 0, 0, start
    for item, place in enumerate([*places, len(ids)]):
        texts = place - begin
        embeds.write_rows(at, decoder.text_rows(ids[begin:place]))
        positions.append(np.tile(number + np.arange(texts), (axes, 1)))
        at, number, begin = at + texts, number + texts, place + 1
        if place < len(ids):
            one = arranged[item]
            _place(decoder, embeds, at, images, one.rows)
            rows.append(at + np.arange(len(one.rows)))
            positions.append(number + one.offsets)
            at, number = at + len(one.rows), number + one.span
    none = np.zeros(0, dtype=np.int64)
    placement = TokenPlacement(
        positions=np.concatenate(positions, axis=1).astype(np.int64),
        image_rows=np.concatenate([none, *rows]),
        images=np.repeat(np.arange(len(places)), [len(one.rows) for one in arranged]),
        entries=np.concatenate([none, *(one.entries for one in arranged)]),
        sizes=tuple(len(one.rows) for one in arranged),
    )
    # A video's numbers of time may run ahead of those of the text behind it (M-RoPE).
    ahead = int(placement.positions.max(initial=-1)) + 1
    return SplicedPrompt(embeds, placement, max(number, ahead))


def _place(
    decoder: Decoder, embeds: Buffer, at: int, images: Sequence[Buffer], rows: np.ndarray
) -> None:
    """Copy image embeddings to ``embeds`` from row ``at`` on, in runs of neighbouring rows."""
    firsts = np.cumsum([0, *(image.shape[0] * image.shape[1] for image in images)])
    part = np.searchsorted(firsts, rows, side="right") - 1
    joined = (np.diff(rows) == 1) & (np.diff(part) == 0)
    for run in np.split(np.arange(len(rows)), np.flatnonzero(~joined) + 1):
        if not len(run):
            continue
        row = int(rows[run[0]])
        if row == SEPARATOR:
            embeds.write_rows(at + int(run[0]), decoder.separator[None])
        else:
            of = int(part[run[0]])
            embeds.copy_rows(at + int(run[0]), images[of], row - int(firsts[of]), len(run))
