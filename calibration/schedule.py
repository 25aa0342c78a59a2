"""How many image tokens each layer needs, found on data: greedy, or a sigmoid under a budget.

After "Accelerating Multimodal Large Language Models by Searching Optimal Vision Token Reduction",
https://arxiv.org/abs/2412.00556 (G-Search and P-Sigmoid). One bundle with a drop at every place
that is considered serves the whole search: keeps are chosen at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import AverageOutOfReach, BoundNotMet, NotCalibratable
from ..runtime.bundle.keep import Keep
from ..runtime.bundle.plan import Plan
from .answers import Answerer, ModelAnswer
from .measure import Measured, measure, scores

STEEPNESS = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Steepnesses of a sigmoid that are tried first, for a decoder of length 1; 0 is uniform."""
_REFINEMENTS = 3
_BISECTIONS = 60
_SETTLED = 16
"""A count is settled when it is within this part of itself."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Keeps of one form, as measured."""

    form: str
    """``unpruned``, ``greedy``, ``sigmoid`` or ``uniform``."""
    counts: tuple[int, ...]
    """Image tokens left after each drop."""
    average: float
    """Image tokens that a layer reads, mean over the layers."""
    measured: Measured
    steepness: float | None = None
    """Of a sigmoid."""


class Search:
    """Measures schedules of one bundle.

    Args:
        asker: of a bundle with a drop at every place that is considered.
        step: told what is asked next.

    Raises:
        NotCalibratable: the bundle has no free schedule.
    """

    def __init__(self, asker: Answerer, step: Callable[[str], None]) -> None:
        self._asker = asker
        self._step = step
        bundle = asker.pipeline.bundle
        self.plan: Plan = bundle.manifest.plan
        if "schedule" not in {record.name for record in self.plan.methods}:
            raise NotCalibratable(
                bundle.path,
                "it has no free schedule; give the model instead of the bundle, or export it with "
                "a drop at every layer to consider: vtp export MODEL --stage 1:1.0:attention "
                "--stage 2:1.0:attention --out DIR",
            )
        self._measured: dict[tuple[int, ...], Measured] = {}
        full = (self.plan.tokens,) * len(self.plan.drops)
        self._announce("unpruned", full)
        self._unpruned = list(asker.each(self.ratios(full)))
        self._best = self._scores(self._unpruned)
        self._note(full, self._unpruned)

    def _announce(self, form: str, counts: tuple[int, ...]) -> None:
        self._step(f"{form}: {', '.join(map(str, counts))} of {self.plan.tokens} tokens")

    def _scores(self, asked: Sequence[ModelAnswer]) -> np.ndarray:
        """Of answers to the first questions."""
        count = len(asked)
        texts, own = [a.text for a in asked], [a.text for a in self._unpruned[:count]]
        return scores(self._asker.data.questions[:count], texts, own)

    def _note(self, counts: tuple[int, ...], asked: Sequence[ModelAnswer]) -> None:
        self._measured[counts] = measure(self._asker.data.questions, asked, self._unpruned)

    def ratios(self, counts: Sequence[int]) -> tuple[Keep, ...]:
        """Counts as shares of all tokens, so that they hold for images of any size."""
        return tuple(count / self.plan.tokens for count in counts)

    def average(self, counts: Sequence[int]) -> float:
        """Image tokens that a layer reads, mean over the layers."""
        return self.plan.average(self.plan.counts(self.ratios(counts), 1), 1)

    def schedule(
        self, form: str, counts: Sequence[int], steepness: float | None = None
    ) -> Schedule:
        """Measure keeps; those measured before are not asked again."""
        key = tuple(counts)
        if key not in self._measured:
            self._announce(form, key)
            self._note(key, list(self._asker.each(self.ratios(key))))
        return Schedule(
            form=form,
            counts=key,
            average=self.average(key),
            measured=self._measured[key],
            steepness=steepness,
        )

    def fits(self, form: str, counts: Sequence[int], allowed: float) -> bool:
        """Whether keeps lose no more than ``allowed``; what cannot be made good ends it early."""
        key, most = tuple(counts), allowed * len(self._best) + 1e-9
        if key not in self._measured:
            self._announce(form, key)
            asked: list[ModelAnswer] = []
            for one in self._asker.each(self.ratios(key)):
                asked.append(one)
                reached = self._scores(asked)
                # All that is left may be right, at best.
                hoped = reached.sum() + len(self._best) - len(asked)
                if self._best.sum() - hoped > most:
                    return False
            self._note(key, asked)
        return float(self._measured[key].drops.sum()) <= most

    def unpruned(self) -> Schedule:
        """Every token everywhere."""
        return self.schedule("unpruned", (self.plan.tokens,) * len(self.plan.drops))

    def uniform(self, average: float) -> Schedule:
        """One count for all drops: the smallest that reads no fewer tokens than ``average``."""
        low, high = 1, self.plan.tokens
        while low < high:
            middle = (low + high) // 2
            enough = self.average((middle,) * len(self.plan.drops)) >= average
            low, high = (low, middle) if enough else (middle + 1, high)
        return self.schedule("uniform", (low,) * len(self.plan.drops))


def greedy(search: Search, max_drop: float) -> Schedule:
    """G-Search: from the shallowest drop to the deepest, the fewest tokens that will do.

    While one drop is settled by bisection, the deeper ones keep all that arrives. What may be lost
    is let out drop by drop in equal parts: the first would else spend all of it. That fewer tokens
    are never better is taken for granted.

    Args:
        search: the bundle.
        max_drop: most score that may be lost at the end, as a share, on these questions.

    Raises:
        BoundNotMet: nothing could be dropped.
    """
    places = len(search.plan.drops)
    counts = list(search.unpruned().counts)
    for place in range(places):
        allowed = max_drop * (place + 1) / places

        def fits(count: int, at: int = place, allowed: float = allowed) -> bool:
            tried = [*counts[:at], *[count] * (places - at)]
            return search.fits("greedy", tried, allowed)

        low, high = 1, counts[place]
        while high - low > max(0, high // _SETTLED - 1):
            middle = math.isqrt(low * high)
            low, high = (low, middle) if fits(middle) else (middle + 1, high)
        counts[place:] = [high] * (places - place)
    found = search.schedule("greedy", counts)
    if found.counts == search.unpruned().counts:
        raise BoundNotMet(
            f"a drop of at most {100 * max_drop:g} points",
            "every schedule that drops a token loses more on these questions",
            "allow more (--max-drop)",
        )
    return found


def sigmoid_counts(plan: Plan, average: float, steepness: float) -> tuple[int, ...]:
    """P-Sigmoid: counts along ``tokens / (1 + exp(steepness * layer / layers - offset))``, the
    offset such that a layer reads at most ``average`` tokens in the mean, as near as can be.

    The form is the paper's, a sigmoid over the layers; its formula was not at hand, so the letters
    are ours. A steepness of 0 is the uniform schedule, a large one a single drop to almost nothing.

    Raises:
        AverageOutOfReach: the layers before the first drop alone read more.
    """

    def counts(offset: float) -> tuple[int, ...]:
        found = []
        for drop in plan.drops:
            # tanh does not overflow.
            height = 0.5 * (1 + math.tanh((offset - steepness * drop.layer / plan.layers) / 2))
            found.append(max(1, round(plan.tokens * height)))
        return tuple(found)

    def reached(offset: float) -> float:
        return plan.average(plan.counts(counts(offset), 1), 1)

    low, high = -40.0, 40.0 + steepness
    if reached(low) > average:
        raise AverageOutOfReach(f"{average:g} tokens", reached(low) / plan.tokens)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) <= average else (low, middle)
    return counts(low)


def sigmoid(search: Search, average: float) -> Schedule:
    """The sigmoid with the best score under a budget.

    With the budget given only the steepness is free, so a row of values and a few between the best
    and its neighbours take the place of the paper's Bayesian optimisation. Of equal scores the one
    with more equal tokens is taken, then the flatter one.

    Args:
        search: the bundle.
        average: image tokens that a layer may read in the mean.

    Raises:
        AverageOutOfReach: as for ``sigmoid_counts``.
    """

    def tried(steepness: float) -> Schedule:
        counts = sigmoid_counts(search.plan, average, steepness)
        return search.schedule("sigmoid", counts, steepness)

    found = {steepness: tried(steepness) for steepness in STEEPNESS}
    for _ in range(_REFINEMENTS):
        best = max(found, key=lambda at: _worth(found[at]))
        order = sorted(found)
        number = order.index(best)
        for near in order[max(0, number - 1) : number + 2]:
            between = (best + near) / 2
            if between not in found:
                found[between] = tried(between)
    return max(found.values(), key=_worth)


def _worth(schedule: Schedule) -> tuple[float, float, float]:
    measured = schedule.measured
    return measured.score, measured.token_agreement, -(schedule.steepness or 0.0)
