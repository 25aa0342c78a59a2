"""Put kept image embeddings where the prompt's image tokens stand."""

from __future__ import annotations

import numpy as np

from .decoder import Decoder
from .engines.base import Buffer


def splice(decoder: Decoder, tokens: list[int], image_token: int, images: Buffer | None) -> Buffer:
    """Embeddings of a prompt.

    Args:
        decoder: embeds text tokens and owns the engine.
        tokens: token ids, one ``image_token`` for each image.
        image_token: id that stands for an image.
        images: ``(images, kept, width)``, in the order of their places; None without images.

    Returns:
        ``(1, len(tokens) + images * (kept - 1), width)``.
    """
    ids = np.array(tokens, dtype=np.int64)
    places = np.flatnonzero(ids == image_token).tolist()
    kept = images.shape[1] if images is not None else 0
    length = len(ids) + len(places) * (kept - 1)
    embeds = decoder.engine.buffer((1, length, decoder.language.width), "float32")
    at = begin = 0
    for item, place in enumerate([*places, len(ids)]):
        embeds.write_rows(at, decoder.embed(ids[begin:place]))
        at += place - begin
        begin = place + 1
        if images is not None and place < len(ids):
            embeds.copy_rows(at, images, item)
            at += kept
    return embeds
