"""What an answer carries besides its text."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

import numpy as np

_SHOWN = 60
"""Characters of a text that are shown."""


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Wall clock of one answer, milliseconds."""

    preprocess_ms: float
    """Image decoding, resize, normalisation."""
    vision_ms: float
    """Vision graph with selection and projector."""
    prefill_ms: float
    """Splice of the embeddings and the language graph over the prompt."""
    ttft_ms: float
    """From the call to the first token: all of the above, tokenizer, sampling, and the guide."""
    decode_ms: float
    """All further tokens together."""
    decoded: int
    """Tokens after the first."""

    @property
    def ms_per_token(self) -> float:
        """Mean time of a decoded token (TPOT)."""
        return self.decode_ms / self.decoded if self.decoded else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class StageResult:
    """What one language stage read in prefill."""

    first: int
    """First layer."""
    stop: int
    """One past the last layer."""
    arrived: int
    """Image tokens before the drop in front of it."""
    image_tokens: int
    """Image tokens that its layers read, merged ones included."""
    tokens: int
    """All tokens that its layers read."""
    flops: float
    """Of the prefill, by ``runtime.bundle.cost.FLOPS_FORMULA``."""
    kv_bytes: int
    """Its part of the KV cache for this turn, new tokens included."""
    score: str | None
    """What ranked the drop in front of it; None for the first stage."""
    kept: tuple[np.ndarray, ...] = field(repr=False)
    """For each image the patches left by that drop; empty for the first stage."""
    scores: np.ndarray | None = field(repr=False)
    """``(groups, candidates)`` float32 scores of that drop; None where nothing was dropped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class GuideResult:
    """What a guide did for an answer (see ``runtime.chat.guide``)."""

    text: str
    """The guide's own answer."""
    scores: tuple[np.ndarray, ...] = field(repr=False)
    """For each image ``(tokens,)`` float32: attention that each token received in the guide."""
    confidence: float
    """Geometric mean of the probabilities of the tokens of its answer."""
    consistency: float | None
    """Probability of that answer with 5 % of the image tokens; None without a threshold."""
    certainty: float
    """Mean of the two: what the threshold is compared with."""
    threshold: float | None
    """Above it the guide's answer is returned and the large model is not run; None: never."""
    exited: bool
    """Whether that happened."""
    ms: float
    """The guide's time, milliseconds."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Result:
    """One answer."""

    text: str
    tokens: tuple[int, ...]
    """Generated token ids, the end token included if it came."""
    finished: str
    """``eos`` (the model ended) or ``length`` (max_new_tokens reached)."""
    kept: tuple[np.ndarray, ...]
    """For each image of this turn, ``(kept,)`` int64 patch indices, kept by the vision graph. Here
    and below, a tile or frame with text of its own in the prompt counts as an image."""
    scores: tuple[np.ndarray, ...]
    """For each image ``(tokens,)`` float32 scores; empty without pruning."""
    prompt_tokens: int
    """Tokens read in prefill, kept image tokens included."""
    image_tokens: int
    """Image tokens among them, as the vision graph left them."""
    image_tokens_before: int
    """Image tokens before pruning."""
    stages: tuple[StageResult, ...]
    """What each language stage read."""
    average_tokens: float
    """Image tokens that a language layer read, mean over the layers, all images together."""
    cache_tokens: int
    """Tokens in the KV cache when the answer ended."""
    cache_bytes: int
    """Size of the KV cache."""
    guide: GuideResult | None
    """What the guide did, where there is one."""
    timings: Timings

    @property
    def reached(self) -> tuple[np.ndarray, ...]:
        """For each image the patches that the last layer still reads, ascending; empty where a
        guide answered alone. Tokens that stand for no patch, or were merged, are left out."""
        last = self.stages[-1].kept if self.stages else ()
        return tuple(np.unique(kept[kept >= 0]) for kept in (last or self.kept))

    def __repr__(self) -> str:
        return (
            f"Result({shown_text(self.text)}, {len(self.tokens)} tokens, {self.finished}, "
            f"{self.image_tokens} of {self.image_tokens_before} image tokens, "
            f"first token after {self.timings.ttft_ms:.1f} ms)"
        )


def shown_text(text: str) -> str:
    """A text in quotes, shortened."""
    return repr(textwrap.shorten(text, _SHOWN, placeholder=" ..."))
