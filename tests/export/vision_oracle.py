"""The vision-side methods in plain NumPy, as their papers and published codes say.

Knows nothing of the exporter: hidden states and attentions are those that transformers returns,
keys come from the layer's own ``k_proj``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

Array = np.ndarray


class Chosen(NamedTuple):
    """What is left of one image."""

    kept: list[int]
    """Patch of each token, -1 for none."""
    features: Array
    """``(kept, width)``, before the projector."""


@dataclass(frozen=True)
class Look:
    """One image in the tower and behind it; everything in float64."""

    attentions: list[Array]
    """Of the layers up to the feature layer: ``(heads, tokens, tokens)``."""
    cls: Array | None
    """``(width,)``."""
    features: Array
    """``(patches, width)``."""
    keys: Array
    """``(patches, head_dim)`` of the feature layer, mean over heads."""
    projected: Array
    """``(patches, language width)``."""
    texts: Array
    """``(texts, language width)``: embeddings of the prompt's text tokens."""

    @property
    def patches(self) -> int:
        return len(self.features)

    def received(self, kind: str, layer: int = -1) -> Array:
        """``(heads, patches)``: attention from [CLS], or the mean over all patches."""
        attention = self.attentions[layer]
        if kind == "cls":
            return attention[:, 0, 1:]
        first = int(self.cls is not None)
        return attention[:, first:, first:].mean(axis=1)


@torch.no_grad()
def look(model: Any, pixels: torch.Tensor, text_ids: Sequence[int]) -> list[Look]:
    """Run the tower of transformers on ``pixels (images, 3, H, W)``."""
    config, inner = model.config, model.model
    tower = inner.vision_tower
    seen = tower(pixels, output_hidden_states=True, output_attentions=True)
    at = config.vision_feature_layer % len(seen.hidden_states)  # 0 is before the first layer
    hidden, layer = seen.hidden_states[at], tower.encoder.layers[at - 1]
    first = int(config.vision_feature_select_strategy == "default")
    before = layer.layer_norm1(seen.hidden_states[at - 1])
    heads = layer.self_attn.num_heads
    keys = layer.self_attn.k_proj(before).unflatten(2, (heads, -1)).mean(dim=2)
    projected = inner.multi_modal_projector(hidden[:, first:])
    texts = model.get_input_embeddings()(torch.tensor(list(text_ids)))
    return [
        Look(
            attentions=[a[i].double().numpy() for a in seen.attentions[:at]],
            cls=hidden[i, 0].double().numpy() if first else None,
            features=hidden[i, first:].double().numpy(),
            keys=keys[i, first:].double().numpy(),
            projected=projected[i].double().numpy(),
            texts=texts.double().numpy(),
        )
        for i in range(len(pixels))
    ]


def falling(scores: Sequence[float] | Array) -> list[int]:
    """Indices from the highest score to the lowest, the lower index first on ties."""
    return sorted(range(len(scores)), key=lambda j: (-scores[j], j))


def cosine(a: Array, b: Array) -> Array:
    """``(n, d)``, ``(m, d)`` -> ``(n, m)``."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b)]
    product: Array = unit[0] @ unit[1].T
    return product


def of_patches(seen: Look, kept: Sequence[int]) -> Chosen:
    order = sorted(kept)
    return Chosen(order, seen.features[order])


def fastervlm(seen: Look, keep: int, score: str = "cls") -> Chosen:
    return of_patches(seen, falling(seen.received(score).mean(axis=0))[:keep])


def vtc_cls(seen: Look, keep: int, score: str = "cls", layers: int = 3) -> Chosen:
    scores = sum(seen.received(score, -back).mean(axis=0) for back in range(1, layers + 1))
    return of_patches(seen, falling(scores)[:keep])


def fopru(seen: Look, keep: int, score: str = "cls", strategy: str = "rank") -> Chosen:
    scores = seen.received(score).mean(axis=0)
    if strategy == "rank":
        return of_patches(seen, falling(scores)[:keep])
    side = int(seen.patches**0.5)
    kept: list[int] = []
    for row in falling(scores.reshape(side, side).sum(axis=1)):
        places = [row * side + column for column in range(side)]
        best = [places[j] for j in falling(scores[places])]
        kept += best[: keep - len(kept)]
    return of_patches(seen, kept)


def visionzip(seen: Look, keep: int, score: str = "cls", contextual: float = 10 / 64) -> Chosen:
    if keep == seen.patches:
        return of_patches(seen, range(keep))
    merged = int(keep * contextual)
    leading = 0 if seen.cls is None else 1
    order = falling(seen.received(score).sum(axis=0))
    dominant = sorted(order[: keep - merged - leading])
    rest = [j for j in range(seen.patches) if j not in set(dominant)]
    kept = [-1] * leading + dominant
    features = [seen.features[j] if j >= 0 else seen.cls for j in kept]
    if merged:
        step = max(1, len(rest) // merged)
        targets = [rest[i * step] for i in range(merged)]
        joined: dict[int, list[int]] = {target: [] for target in targets}
        similar = cosine(seen.keys, seen.keys[targets])
        for j in rest:
            if j not in joined:
                joined[targets[int(similar[j].argmax())]].append(j)
        for target, others in joined.items():
            mean = seen.features[others].mean(axis=0) if others else 0
            kept.append(target)
            features.append(seen.features[target] + mean)
    return Chosen(kept, np.stack(features))


def vispruner(seen: Look, keep: int, score: str = "cls", important: float = 0.5) -> Chosen:
    scores = seen.received(score).mean(axis=0)
    return of_patches(seen, thinned(scores, cosine(seen.features, seen.features), keep, important))


def thinned(scores: Array, similar: Array, keep: int, important: float) -> list[int]:
    order = falling(scores)
    first = int(keep * important)
    kept, line = order[:first], order[first:]
    short = keep - first
    while len(line) > short:
        removed = min(8, len(line) - short)
        odd_length = len(line) % 2
        evens = line[0 : len(line) - odd_length : 2]
        odds = line[1 : len(line) - odd_length : 2] + line[len(line) - odd_length :] * odd_length
        nearest = similar[np.ix_(evens, odds)].max(axis=1)
        by_similarity = [evens[i] for i in falling(nearest)]
        line = by_similarity[removed:] + odds
    return kept + line


def divprune(seen: Look, keep: int) -> Chosen:
    distance = 1 - cosine(seen.projected, seen.projected)
    return of_patches(seen, far_apart(distance, keep))


def far_apart(distance: Array, keep: int) -> list[int]:
    count = len(distance)
    second = np.sort(distance, axis=0)[1] if count > 1 else np.zeros(1)
    kept = [int(second.argmax())]
    while len(kept) < keep:
        free = [j for j in range(count) if j not in kept]
        kept.append(max(free, key=lambda j: (distance[kept, j].min(), -j)))
    return kept


def cdpruner(seen: Look, keep: int, relevance_weight: float = 0.5) -> Chosen:
    if keep == seen.patches:
        return of_patches(seen, range(keep))
    mean = cosine(seen.projected, seen.texts).mean(axis=1)
    relevance = (mean - mean.min() + 1e-6) / (mean.max() - mean.min())
    relevance = relevance ** (2 * relevance_weight)
    kernel = relevance[:, None] * cosine(seen.projected, seen.projected) * relevance[None]
    kept: list[int] = []
    for _ in range(keep):
        free = [j for j in range(seen.patches) if j not in kept]
        # The determinant itself: what the fast algorithms climb.
        volumes = [np.linalg.slogdet(kernel[np.ix_([*kept, j], [*kept, j])])[1] for j in free]
        kept.append(free[int(np.argmax(volumes))])
    return of_patches(seen, kept)


def random(seen: Look, keep: int, seed: int = 0) -> Chosen:
    order = np.random.default_rng(seed).permutation(seen.patches)
    return of_patches(seen, np.flatnonzero(order < keep).tolist())


def uniform(seen: Look, keep: int) -> Chosen:
    side = int(seen.patches**0.5)
    places = np.array([divmod(j, side) for j in range(seen.patches)])
    kept = [(side // 2) * side + side // 2]
    while len(kept) < keep:
        square = ((places[:, None] - places[kept][None]) ** 2).sum(axis=2).min(axis=1)
        kept.append(int(square.argmax()))
    return of_patches(seen, kept)


METHODS: dict[str, Callable[..., Chosen]] = {
    "fastervlm": fastervlm,
    "vtc-cls": vtc_cls,
    "fopru": fopru,
    "visionzip": visionzip,
    "vispruner": vispruner,
    "divprune": divprune,
    "cdpruner": cdpruner,
    "random": random,
    "uniform": uniform,
}
