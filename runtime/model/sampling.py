"""The next token from logits: greedy, or drawn with temperature, top-k and nucleus (top-p).

Top-k: Fan et al., "Hierarchical Neural Story Generation", https://arxiv.org/abs/1805.04833.
Nucleus sampling: Holtzman et al., "The Curious Case of Neural Text Degeneration",
https://arxiv.org/abs/1904.09751. Repetition penalty: Keskar et al., "CTRL",
https://arxiv.org/abs/1909.05858, section 4.1. In the order and form of transformers' processors.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import numpy as np

from ...errors import SamplingInvalid


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen from the logits of one position."""

    temperature: float = 0.0
    """0 chooses the highest logit, the lowest index on ties. Above 0, logits are divided by it
    before the softmax."""
    top_p: float = 1.0
    """Draw from the smallest set of most probable tokens whose probabilities sum to at least this;
    1 draws from all. In (0, 1]."""
    seed: int | None = None
    """Of the generator, for draws that repeat; None takes one from the system."""
    top_k: int | None = field(default=None, kw_only=True)
    """Draw from so many most probable tokens, and those that equal the last of them; 0 or None
    draws from all."""
    repetition_penalty: float = field(default=1.0, kw_only=True)
    """Of a token that is penalized (``Sampler.penalize``) a logit above 0 is divided by it, one
    below 0 multiplied; so also where the choice is greedy. 1 changes nothing."""

    def __post_init__(self) -> None:
        temperature, top_p, seed, top_k = self.temperature, self.top_p, self.seed, self.top_k
        penalty = self.repetition_penalty
        if not _is_real(temperature) or temperature < 0:
            raise SamplingInvalid("temperature", temperature, "0 (greedy) or a number above 0")
        if not _is_real(top_p) or not 0 < top_p <= 1:
            raise SamplingInvalid("top_p", top_p, "a number above 0 and up to 1")
        if seed is not None and (not _is(seed, Integral) or seed < 0):
            raise SamplingInvalid("seed", seed, "a whole number from 0 up, or none")
        if top_k is not None and (not _is(top_k, Integral) or top_k < 0):
            raise SamplingInvalid("top_k", top_k, "a count of tokens, or 0 for all")
        if not _is_real(penalty) or penalty <= 0:
            raise SamplingInvalid("repetition_penalty", penalty, "a number above 0 (1: no penalty)")

    def sampler(self) -> Sampler:
        """What chooses so, from its beginning."""
        return Sampler(
            self.temperature,
            self.top_p,
            self.seed,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
        )


class Sampler:
    """Chooses one token from the logits of one position; arguments and errors as for
    ``Sampling``."""

    def __init__(
        self,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int | None = None,
        *,
        top_k: int | None = None,
        repetition_penalty: float = 1.0,
    ) -> None:
        Sampling(temperature, top_p, seed, top_k=top_k, repetition_penalty=repetition_penalty)
        self.temperature = float(temperature)
        self.top_p = float(top_p)
        self.seed = None if seed is None else int(seed)
        self.top_k = int(top_k or 0)
        self.repetition_penalty = float(repetition_penalty)
        self._penalized: set[int] = set()
        self._generator = np.random.default_rng(self.seed)

    def __repr__(self) -> str:
        names = ("temperature", "top_p", "top_k", "repetition_penalty", "seed")
        return f"Sampler({', '.join(f'{name}={getattr(self, name)}' for name in names)})"

    def penalize(self, tokens: Iterable[int]) -> None:
        """Note tokens of the prompt or of the answer, for the repetition penalty."""
        if self.repetition_penalty != 1:
            self._penalized.update(tokens)

    def __call__(self, logits: np.ndarray) -> int:
        """Choose a token.

        Args:
            logits: ``(vocab,)`` floats; minus infinity rules a token out.

        Returns:
            The token's index.

        Raises:
            SamplingInvalid: Logits of another shape, with NaN or plus infinity, or that rule out
                every token.
        """
        logits = self._penalised(logits)
        best = int(np.argmax(logits))
        if self.temperature == 0:
            return best
        order, mass = self._candidates(logits)
        return int(order[np.searchsorted(mass, self._generator.random() * mass[-1], side="right")])

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """What is drawn from, ``(vocab,)`` float64 that add up to 1; arguments as for a call.

        Raises:
            SamplingInvalid: As for a call, or a temperature of 0, where nothing is drawn.
        """
        if self.temperature == 0:
            raise SamplingInvalid("temperature", 0, "a number above 0, to draw")
        order, mass = self._candidates(self._penalised(logits))
        found = np.zeros(logits.size)
        found[order[: len(mass)]] = np.diff(mass, prepend=0.0) / mass[-1]
        return found

    def _penalised(self, logits: np.ndarray) -> np.ndarray:
        """The logits, checked, those of penalized tokens changed."""
        if logits.ndim != 1 or not logits.size:
            raise SamplingInvalid("logits of shape", logits.shape, "the shape (vocab,)")
        highest = float(logits.max())  # NaN if there is any
        if not math.isfinite(highest):
            raise SamplingInvalid(
                "a highest logit of",
                highest,
                "finite logits (minus infinity for tokens that are ruled out, but not for all); "
                "NaN or inf most often means that the model overflowed in half precision",
            )
        known = np.array(
            [token for token in self._penalized if token < logits.size], dtype=np.int64
        )
        if not len(known):
            return logits
        logits = logits.copy()
        found, penalty = logits[known], np.asarray(self.repetition_penalty, logits.dtype)
        logits[known] = np.where(found < 0, found * penalty, found / penalty)
        return logits

    def _candidates(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tokens, the most probable first, and the summed probabilities of those that are drawn
        from."""
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp((logits.astype(np.float64) - float(logits.max())) / self.temperature)
        if 0 < self.top_k < logits.size:
            weights[logits < np.partition(logits, -self.top_k)[-self.top_k]] = 0
        # Stable, so that of equally probable tokens the lower index enters the nucleus first.
        order = np.argsort(-weights, kind="stable")
        mass = np.cumsum(weights[order] / weights.sum())
        if self.top_p < 1:
            mass = mass[: np.searchsorted(mass, self.top_p, side="left") + 1]
        return order, mass


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return _is(value, Real) and math.isfinite(value)
