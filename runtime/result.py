"""What an answer carries besides its text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
    """From the call to the first token: all of the above, tokenizer and sampling."""
    decode_ms: float
    """All further tokens together."""
    decoded: int
    """Tokens after the first."""

    @property
    def ms_per_token(self) -> float:
        """Mean time of a decoded token (TPOT)."""
        return self.decode_ms / self.decoded if self.decoded else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One answer."""

    text: str
    tokens: tuple[int, ...]
    """Generated token ids, the end token included if it came."""
    finished: str
    """``eos`` (the model ended) or ``length`` (max_new_tokens reached)."""
    kept: tuple[np.ndarray, ...]
    """For each image of this turn, ``(kept,)`` int64 patch indices in raster order."""
    scores: tuple[np.ndarray, ...]
    """For each image ``(tokens,)`` float32 scores; empty without pruning."""
    prompt_tokens: int
    """Tokens read in prefill, kept image tokens included."""
    image_tokens: int
    """Kept image tokens among them."""
    image_tokens_before: int
    """Image tokens before pruning."""
    cache_tokens: int
    """Tokens in the KV cache when the answer ended."""
    cache_bytes: int
    """Size of the KV cache."""
    timings: Timings
