"""Put kept image embeddings where the prompt's image tokens stand, and number the tokens."""

from __future__ import annotations

import numpy as np

from .decoder import Decoder
from .engines.base import Buffer
from .layout import Layout, Prompt


def splice(
    decoder: Decoder,
    tokens: list[int],
    image_token: int,
    images: Buffer | None,
    kept: np.ndarray | None = None,
    start: int = 0,
) -> Prompt:
    """Embeddings and layout of a turn.

    Args:
        decoder: embeds text tokens, owns the engine and knows the plan.
        tokens: token ids, one ``image_token`` for each image.
        image_token: id that stands for an image.
        images: ``(images, kept, width)``, in the order of their places; None without images.
        kept: ``(images, kept)`` int64: patch of each image token; None for all of them.
        start: number of the first token.
    """
    ids = np.array(tokens, dtype=np.int64)
    places = np.flatnonzero(ids == image_token).tolist()
    count = images.shape[1] if images is not None else 0
    length = len(ids) + len(places) * (count - 1)
    embeds = decoder.engine.buffer((1, length, decoder.language.width), "float32")
    if kept is None:
        kept = np.tile(np.arange(count), (len(places), 1))
    original = decoder.plan.positions == "original"
    rows, positions = [], []
    at, begin, number = 0, 0, start
    for item, place in enumerate([*places, len(ids)]):
        texts = place - begin
        embeds.write_rows(at, decoder.embed(ids[begin:place]))
        positions.append(number + np.arange(texts))
        at, number, begin = at + texts, number + texts, place + 1
        if images is not None and place < len(ids):
            embeds.copy_rows(at, images, item)
            rows.append(at + np.arange(count))
            # A token that stands for no patch ([CLS]) takes the image's first number.
            of_image = np.maximum(kept[item], 0) if original else np.arange(count)
            positions.append(number + of_image)
            at, number = at + count, number + (decoder.plan.tokens if original else count)
    none = np.zeros(0, dtype=np.int64)
    layout = Layout(
        positions=np.concatenate(positions).astype(np.int64),
        image_rows=np.concatenate([none, *rows]),
        images=np.repeat(np.arange(len(places)), count),
        patches=kept.ravel() if len(places) else none,
        count=len(places),
    )
    return Prompt(embeds, layout, number)
