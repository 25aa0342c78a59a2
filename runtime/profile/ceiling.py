"""The ceiling: what pruning could gain here if dropped tokens were free, and what it gained.

Phases of a request are of two kinds. *Fixed* ones come before tokens are dropped, or do not read
them: reading and preprocessing the images, the guide, the vision graph, raters, and language stages
in front of the first drop. *Free* ones would cost nothing for tokens that are gone; what they cost
without any image token is measured, in the same rounds, by the same question without its images.

    floor of TTFT   = sum of the fixed phases + the other phases of the question without images
    ceiling of TTFT = TTFT at keep 1.0 / floor of TTFT

A fixed phase counts at the keep where its median is least; those that know nothing of the keep
(reading, preprocessing, the guide) with the mean of the medians, of which the least would be luck.
The floor of the whole answer adds decode of the question without images. All are medians.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..bundle.contract import BEFORE_STAGES, VISION
from ..bundle.plan import Plan
from .measure import DECODE, Series
from .statistics import Estimate, Medians, Rounds
from .workload import TEXT_ONLY, WHOLE

PAYS = 1.1
"""Below this ceiling pruning is not worth its while."""
DRIFT = 0.1
"""Change between the halves of a run that is told."""
_SAME = ("read", "preprocess", "guide")
"""Phases that do the same work at every keep."""
_FIXED = (*_SAME, VISION, *(kind.name for kind in BEFORE_STAGES))
_ANSWER = (DECODE, "finish")


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Of one measure: time to the first token, or the whole answer."""

    floor_ms: Estimate
    possible: Estimate
    """How many times faster than keep 1.0 it could be at most."""
    reached: Mapping[str, Estimate]
    """How many times faster each keep is."""

    @property
    def best(self) -> str | None:
        """The keep that gains most; None where nothing but keep 1.0 was measured."""
        return max(self.reached, key=lambda keep: self.reached[keep].value, default=None)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a profile says about pruning here."""

    ttft: Ceiling
    latency: Ceiling
    vision_share: float
    """Vision graph, of TTFT at keep 1.0."""
    image_share: float
    """What image tokens cost, of TTFT at keep 1.0: what is above the floor."""
    decode_share: float
    """Decode, of the whole answer at keep 1.0."""
    sentences: tuple[str, ...]
    warnings: tuple[str, ...]


def rounds_of(series: Mapping[str, Series]) -> Rounds:
    """All series of a run, named ``keep/metric`` and ``keep/phase NAME``."""
    return Rounds(
        {
            f"{label}/{name}": values
            for label, one in series.items()
            for name, values in one.values().items()
        }
    )


def fixed_phases(plan: Plan) -> tuple[str, ...]:
    """Phases that cost what they cost, however many tokens are dropped."""
    return _FIXED if plan.vision_drop is not None or not plan.drops else (*_FIXED, "prefill.0")


def judge(plan: Plan, series: Mapping[str, Series]) -> Verdict:
    """The ceiling, from the series of keep 1.0, of other keeps, and of the question alone."""
    rounds = rounds_of(series)
    keeps = [label for label in series if label != TEXT_ONLY]
    fixed = fixed_phases(plan)
    bare = series[TEXT_ONLY].requests[0].phases
    free = [phase for phase in bare if phase not in fixed]

    def floor(median: Medians, answer: bool) -> np.ndarray:
        total = np.zeros(1)
        for phase in fixed:
            costs = [
                median(f"{keep}/phase {phase}")
                for keep in keeps
                if f"{keep}/phase {phase}" in rounds
            ]
            if costs:
                total = total + (np.mean if phase in _SAME else np.min)(costs, axis=0)
        for phase in free:
            if answer or phase not in _ANSWER:
                total = total + median(f"{TEXT_ONLY}/phase {phase}")
        return total

    def ceiling(metric: str, answer: bool) -> Ceiling:
        whole = f"{WHOLE}/{metric}"
        return Ceiling(
            floor_ms=rounds.estimate(lambda median: floor(median, answer)),
            possible=rounds.estimate(lambda median: median(whole) / floor(median, answer)),
            reached={k: rounds.ratio(whole, f"{k}/{metric}") for k in keeps if k != WHOLE},
        )

    ttft, latency = ceiling("ttft", False), ceiling("latency", True)
    first, whole = rounds.median(f"{WHOLE}/ttft"), rounds.median(f"{WHOLE}/latency")
    verdict = Verdict(
        ttft=ttft,
        latency=latency,
        vision_share=rounds.median(f"{WHOLE}/phase vision") / first,
        image_share=max(0.0, 1 - ttft.floor_ms.value / first),
        decode_share=rounds.median(f"{WHOLE}/phase {DECODE}") / whole,
        sentences=(),
        warnings=(),
    )
    return Verdict(
        **{
            **vars(verdict),
            "sentences": _sentences(verdict, plan),
            "warnings": (*_warnings(verdict, series), *_drift(series[WHOLE])),
        }
    )


def times(estimate: Estimate) -> str:
    """``1.7x (1.6 to 1.8)``."""
    ends = "" if estimate.low is None else f" ({estimate.low:.2f} to {estimate.high:.2f})"
    return f"{estimate.value:.2f}x{ends}"


def _sentences(verdict: Verdict, plan: Plan) -> tuple[str, ...]:
    ttft, latency = verdict.ttft, verdict.latency
    said = (
        f"vision takes {verdict.vision_share:.0%} of TTFT: the speedup of TTFT by pruning is at "
        f"most {times(ttft.possible)} here"
    )
    if ttft.best is not None:
        said += f", and {times(ttft.reached[ttft.best])} at keep {ttft.best}"
    elif not plan.drops:
        said += "; this bundle does not prune"
    whole = (
        f"decode takes {verdict.decode_share:.0%} of the whole answer: the speedup of the answer "
        f"by pruning is at most {times(latency.possible)}"
    )
    if latency.best is not None:
        whole += f", and {times(latency.reached[latency.best])} at keep {latency.best}"
    return said.replace("%", " %"), whole.replace("%", " %")


def _warnings(verdict: Verdict, series: Mapping[str, Series]) -> list[str]:
    """When pruning cannot pay, and when it could but did not."""
    found = []
    facts = series[WHOLE].facts
    images, text = facts.image_tokens_before, facts.prompt_tokens - facts.image_tokens
    if verdict.ttft.possible.value < PAYS:
        guide = _guide_ms(series)
        where = (
            f"and the guide takes {guide:.0f} ms"
            if guide
            else f"the vision graph alone takes {verdict.vision_share:.0%}"
            if verdict.vision_share > 0.5
            else f"the prompt has {text} text tokens and {images} image tokens"
        )
        found.append(
            f"pruning does not pay off here: image tokens take {verdict.image_share:.0%} of TTFT, "
            f"{where}".replace("%", " %")
        )
    if verdict.latency.possible.value < PAYS <= verdict.ttft.possible.value:
        found.append(
            f"decode-bound: {verdict.decode_share:.0%} of the whole answer is decode; pruning "
            "speeds up the first token, but the whole answer by at most ".replace("%", " %")
            + times(verdict.latency.possible)
        )
    slow = [
        keep
        for keep, gain in verdict.ttft.reached.items()
        if (gain.value if gain.low is None else gain.low) <= 1.0
    ]
    if slow and verdict.ttft.possible.value >= PAYS:
        found.append(
            f"not measurably faster than keep 1.0 to the first token: keep {', '.join(slow)}; "
            "more rounds (--repeat) can show smaller differences"
        )
    return found


def _guide_ms(series: Mapping[str, Series]) -> float:
    """What asking the guide costs; 0 without one."""
    asked = [
        values for one in series.values() if len(values := one.values().get("phase guide", ()))
    ]
    return min((float(np.median(values)) for values in asked), default=0.0)


def _drift(whole: Series) -> Sequence[str]:
    """Whether the machine was not the same at the end as at the beginning."""
    values = whole.values()["ttft"]
    half = len(values) // 2
    if half < 2:
        return ()
    change = float(np.median(values[-half:]) / np.median(values[:half])) - 1
    if abs(change) < DRIFT:
        return ()
    slower = "slower" if change > 0 else "faster"
    return (
        f"the machine drifted: keep 1.0 was {abs(change) * 100:.0f} % {slower} in the second half "
        "of the run; this affects times more than ratios",
    )
