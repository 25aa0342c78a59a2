"""When to take the answer of a guide: the threshold of SGL's early exit, found on data.

"A Stitch in Time Saves Nine", https://arxiv.org/abs/2412.03324: the guide's answer is returned
where its certainty, mean of confidence and consistency, is above a threshold. Guide and large model
answer every question once; what a threshold would have done follows from that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BoundNotMet, NotCalibratable
from .answers import Answerer, ModelAnswer
from .bound import needed, upper_bound
from .data import Question
from .measure import scores

_DIGITS = 6
_MOST_THRESHOLDS = 200


@dataclass(frozen=True, kw_only=True)
class ExitWish:
    """What a threshold has to meet: one of the first three."""

    max_drop: float | None = None
    """Most score that may be lost beside the large model alone, as a share."""
    accuracy: float | None = None
    """Least score, as a share."""
    exits: float | None = None
    """Least share of questions that the guide answers alone."""
    confidence: float
    """Chance that it holds on questions of the same kind; 0 takes what was measured. Of ``exits``
    always what was measured."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What a threshold does to the questions."""

    threshold: float
    exits: float
    """Share that the guide answers alone."""
    score: float
    """Share of right answers, or of those that agree with the large model's."""
    drop: float
    """Score of the large model alone less ``score``."""
    drop_bound: float
    """What ``drop`` is at most elsewhere."""
    score_bound: float
    """What ``score`` is at least elsewhere."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What guide and large model said to every question."""

    certainties: np.ndarray
    """``(questions,)``."""
    guide: np.ndarray
    """``(questions,)`` scores of the guide's answers."""
    large: np.ndarray
    """``(questions,)`` scores of the large model's."""

    def at(self, threshold: float, confidence: float) -> Threshold:
        """What comes of a threshold."""
        exits = self.certainties > threshold
        reached = np.where(exits, self.guide, self.large)
        lost = self.large - reached
        return Threshold(
            threshold=threshold,
            exits=float(exits.mean()),
            score=float(reached.mean()),
            drop=float(lost.mean()),
            drop_bound=upper_bound(lost, confidence),
            score_bound=1 - upper_bound(1 - reached, confidence),
        )

    def thresholds(self) -> list[float]:
        """Those that make a difference, some of them where there are many; the first is the
        highest, above which nothing is."""
        values = sorted({_up(float(value)) for value in self.certainties}, reverse=True)
        step = -(-len(values) // _MOST_THRESHOLDS)
        # Certainties are above 0, so 0 lets every question exit.
        return [*values[::step], 0.0]


def ask_both(asker: Answerer) -> Answers:
    """Ask guide and large model every question.

    Args:
        asker: of the large model's bundle, with a guide (``AnswerOptions.check_guide``).

    Raises:
        NotCalibratable: there is no guide.
    """
    pipeline = asker.pipeline
    if pipeline.guide is None:
        raise NotCalibratable(pipeline.bundle.path, "no guide was given (--guide DIR)")
    keep = pipeline.bundle.manifest.plan.keeps(None)
    return answers(asker.data.questions, asker.ask([keep])[keep])


def answers(questions: Sequence[Question], asked: Sequence[ModelAnswer]) -> Answers:
    """Scores of both models; where a question has no answer the large model's is right."""
    large = [one.text for one in asked]
    said = [one.guided for one in asked]
    assert all(one is not None for one in said)
    return Answers(
        certainties=np.array([one.certainty for one in said if one]),
        guide=scores(questions, [one.text for one in said if one], large),
        large=scores(questions, large, large),
    )


def choose_threshold(found: Answers, wish: ExitWish) -> Threshold:
    """The lowest threshold that meets a wish, or of a share of exits the highest.

    As for keeps, thresholds are tried from the highest on and the first that fails ends it.

    Raises:
        BoundNotMet: none does; tells the best found.
    """
    tried = found.thresholds()
    if wish.exits is not None:
        # 0 lets all exit, so one always fits.
        return next(
            at
            for at in (found.at(one, wish.confidence) for one in tried)
            if at.exits >= wish.exits - 1e-9
        )
    chosen: Threshold | None = None
    best: Threshold | None = None
    for one in tried:
        at = found.at(one, wish.confidence)
        best = max(best or at, at, key=lambda t: t.score_bound)
        if not _meets(at, wish):
            break
        chosen = at
    if chosen is not None:
        return chosen
    assert best is not None
    certain = f" at {100 * wish.confidence:g} % confidence" if wish.confidence else ""
    if wish.accuracy is not None:
        raise BoundNotMet(
            f"an accuracy of {100 * wish.accuracy:g} %{certain}",
            f"threshold {best.threshold:g} reaches {100 * best.score:.2f} % on these "
            f"{len(found.large)} questions and at least {100 * best.score_bound:.2f} % on others",
            f"ask for a lower accuracy, or give more questions (the large model alone has "
            f"{100 * found.large.mean():.2f} %)",
        )
    raise BoundNotMet(
        f"a drop of at most {100 * (wish.max_drop or 0):g} points{certain}",
        f"threshold {best.threshold:g} loses {100 * best.drop:.2f} points on these "
        f"{len(found.large)} questions and at most {100 * best.drop_bound:.2f} on others",
        "allow more (--max-drop), or give more questions (about "
        f"{needed(max(wish.max_drop or 0.0, 1e-4), wish.confidence)} if no answer gets worse)",
    )


def _meets(at: Threshold, wish: ExitWish) -> bool:
    if wish.accuracy is not None:
        return at.score_bound >= wish.accuracy - 1e-9
    return at.drop_bound <= (wish.max_drop or 0.0) + 1e-9


def _up(value: float) -> float:
    """Rounded up, so that a threshold can be typed and the question itself does not exit."""
    return float(math.ceil(value * 10**_DIGITS) / 10**_DIGITS)
