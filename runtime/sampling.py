"""The next token from logits: greedy, or drawn with temperature and nucleus (top-p).

Nucleus sampling: Holtzman et al., "The Curious Case of Neural Text Degeneration",
https://arxiv.org/abs/1904.09751.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import SamplingInvalid


class Sampler:
    """Chooses one token from the logits of one position.

    Args:
        temperature: 0 chooses the highest logit, the lowest index on ties. Above 0, logits are
            divided by it before the softmax.
        top_p: Draw from the smallest set of most probable tokens whose probabilities sum to at
            least this; 1 draws from all. In (0, 1].
        seed: Of the generator, for draws that repeat; None takes one from the system.

    Raises:
        SamplingInvalid: A setting outside its range.
    """

    def __init__(
        self, temperature: float = 0.0, top_p: float = 1.0, seed: int | None = None
    ) -> None:
        if not _is_real(temperature) or temperature < 0:
            raise SamplingInvalid("temperature", temperature, "0 (greedy) or a number above 0")
        if not _is_real(top_p) or not 0 < top_p <= 1:
            raise SamplingInvalid("top_p", top_p, "a number above 0 and up to 1")
        if seed is not None and (not _is(seed, Integral) or seed < 0):
            raise SamplingInvalid("seed", seed, "a whole number from 0 up, or none")
        self.temperature = float(temperature)
        self.top_p = float(top_p)
        self.seed = None if seed is None else int(seed)
        self._generator = np.random.default_rng(self.seed)

    def __repr__(self) -> str:
        return f"Sampler(temperature={self.temperature}, top_p={self.top_p}, seed={self.seed})"

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
        if logits.ndim != 1 or not logits.size:
            raise SamplingInvalid("logits of shape", logits.shape, "the shape (vocab,)")
        best = int(np.argmax(logits))
        highest = float(logits[best])  # NaN if there is any: argmax finds NaN first
        if not math.isfinite(highest):
            raise SamplingInvalid(
                "a highest logit of",
                highest,
                "finite logits (minus infinity for tokens that are ruled out, but not for all); "
                "NaN or inf most often means that the model overflowed in half precision",
            )
        if self.temperature == 0:
            return best
        with np.errstate(over="ignore", under="ignore"):
            weights = np.exp((logits.astype(np.float64) - highest) / self.temperature)
        # Stable, so that of equally probable tokens the lower index enters the nucleus first.
        order = np.argsort(-weights, kind="stable")
        mass = np.cumsum(weights[order] / weights.sum())
        if self.top_p < 1:
            mass = mass[: np.searchsorted(mass, self.top_p, side="left") + 1]
        return int(order[np.searchsorted(mass, self._generator.random() * mass[-1], side="right")])


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _is_real(value: Any) -> bool:
    return _is(value, Real) and math.isfinite(value)
