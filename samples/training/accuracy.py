"""Accuracy through torch, by keep, selection and kind of question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from ..folder import build_tokenizer
from ..scenes import KINDS, SHORT_KINDS, Sample
from .language_stage import answer_logits, encode
from .packing import pack
from .selection import SELECTIONS, kept_count, select

Scores = dict[tuple[str, float], dict[str, float]]
"""(selection, keep) -> kind -> share of right answers; "average" is over `SHORT_KINDS`."""


@torch.inference_mode()
def measure(
    model: LlavaForConditionalGeneration,
    samples: Sequence[Sample],
    keeps: Sequence[float],
    seed: int = 0,
) -> Scores:
    """Share of questions answered exactly by greedy decoding.

    Greedy decoding gives the wanted answer exactly when, fed that answer, the model's first
    choice is right at every token and at the end: one forward pass tells.
    """
    tokenizer = build_tokenizer()
    tower = model.model.vision_tower
    parts = [
        encode(tower, np.stack([np.asarray(s.image) for s in samples[i : i + 50]]))
        for i in range(0, len(samples), 50)
    ]
    features, scores = (np.concatenate(p) for p in zip(*parts, strict=True))
    table: Scores = {}
    for keep in keeps:
        for name in SELECTIONS if keep < 1 else ("cls",):
            rng = np.random.default_rng(seed)
            count = kept_count(scores.shape[1], keep)
            kept = select(name, scores, count, rng)
            taken = np.take_along_axis(features, kept[:, :, None], 1).astype(np.float32)
            right: dict[str, list[bool]] = {kind: [] for kind in KINDS}
            for i in range(0, len(samples), 50):
                group = samples[i : i + 50]
                packed = pack(tokenizer, [[[(s.question, s.answer)]] for s in group], count)
                logits, wanted = answer_logits(model, torch.from_numpy(taken[i : i + 50]), packed)
                hits = torch.ones_like(packed.labels, dtype=torch.bool)
                hits[packed.labels >= 0] = logits.argmax(-1) == wanted
                for sample, hit in zip(group, hits.all(1).tolist(), strict=True):
                    right[sample.kind].append(hit)
            by_kind = {kind: float(np.mean(hits)) for kind, hits in right.items() if hits}
            by_kind["average"] = float(np.mean([by_kind[k] for k in SHORT_KINDS if k in by_kind]))
            table[name, keep] = by_kind
    return table


def as_markdown(table: Scores) -> str:
    """The table in percent, one row per keep and selection."""
    columns = ("average", *KINDS)
    lines = [
        "| keep | selection | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for (name, keep), by_kind in table.items():
        cells = [f"{100 * by_kind[c]:.1f}" if c in by_kind else "-" for c in columns]
        label = "all tokens" if keep >= 1 else name
        lines.append(f"| {keep:g} | {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
