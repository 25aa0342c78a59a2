"""Batches of several conversations per picture in one sequence, as inference would place them.

Each sequence is [<s> USER : image tokens][conversation][conversation]...; a conversation sees the
prefix and itself, and its positions go on from the prefix, as if it stood alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer

from ..folder import EOS, IMAGE, conversation, vocabulary


@dataclass(frozen=True)
class Packed:
    """Token tensors of a batch without the image tokens' embeddings."""

    prefix: torch.Tensor
    """(lead,) ids before the image tokens."""
    ids: torch.Tensor
    """(batch, length) ids after the image tokens."""
    labels: torch.Tensor
    """(batch, length): the id wanted at the next position, -100 where nothing is learned."""
    shares: torch.Tensor
    """(batch, length) float32: 1 / sqrt(tokens of the answer), so that long answers do not rule."""
    positions: torch.Tensor
    """(batch, lead + kept + length)."""
    mask: torch.Tensor
    """(batch, 1, all, all) bool: who sees whom."""


def pack(tokenizer: Tokenizer, batch: list[list[list[tuple[str, str]]]], kept: int) -> Packed:
    """Pack conversations (turns of question and answer) of each picture with `kept` tokens."""
    vocab = vocabulary()
    image, end = vocab[IMAGE], vocab[EOS]
    asks = (vocab["assistant"], vocab[":"])
    rows: list[tuple[list[int], list[int], list[int], list[int]]] = []
    prefix: list[int] = []
    for conversations in batch:
        ids: list[int] = []
        labels: list[int] = []
        offsets: list[int] = []
        segments: list[int] = []
        for number, turns in enumerate(conversations):
            tokens = tokenizer.encode(conversation(turns)).ids
            split = tokens.index(image)
            prefix, tokens = tokens[:split], tokens[split + 1 :]
            answering = False
            for i, token in enumerate(tokens):
                answering = answering or (i > 0 and (tokens[i - 1], token) == asks)
                answering = answering and token != end
                labels.append(tokens[i + 1] if answering else -100)
            ids += tokens
            offsets += range(len(tokens))
            segments += [number] * len(tokens)
        rows.append((ids, labels, offsets, segments))
    length = max(len(row[0]) for row in rows)
    lead = len(prefix) + kept
    filled = np.stack(
        [
            np.stack(
                [
                    np.array(part + [blank] * (length - len(part)))
                    for part, blank in zip(row, (vocab["<pad>"], -100, 0, -1), strict=True)
                ]
            )
            for row in rows
        ]
    )
    ids_, labels_, offsets_, segments_ = torch.from_numpy(filled).unbind(1)
    learned = labels_ >= 0
    # The turns of one conversation count as one answer: near enough for a weight.
    same = (segments_[:, :, None] == segments_[:, None, :]) & learned[:, None, :]
    shares = same.sum(-1).clamp(min=1).float().rsqrt() * learned
    front = torch.arange(lead).expand(len(rows), -1)
    mask = torch.ones(lead + length, lead + length, dtype=torch.bool).tril()
    mask = mask.expand(len(rows), -1, -1).clone()
    mask[:, lead:, lead:] &= segments_[:, :, None] == segments_[:, None, :]
    return Packed(
        prefix=torch.tensor(prefix),
        ids=ids_,
        labels=labels_,
        shares=shares,
        positions=torch.cat([front, lead + offsets_], 1),
        mask=mask[:, None],
    )
