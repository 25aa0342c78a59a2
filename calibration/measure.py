"""What answers are worth, beside those of the unpruned model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from .agreement import is_right, same_text, token_agreement
from .answers import ModelAnswer
from .bound import upper_bound
from .data import Question


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Answers to all questions at one keep."""

    accuracy: float | None
    """Share of right answers among the questions that say what is right; None if none does."""
    agreement: float
    """Share of answers with the text of the unpruned model's, over all questions."""
    token_agreement: float
    """Mean share of equal tokens (``agreement.token_agreement``), over all questions."""
    score: float
    """Mean of ``scores``."""
    drops: np.ndarray
    """``(questions,)``: score of the unpruned model less that of these answers, -1, 0 or 1."""
    average_tokens: float
    """Image tokens that a language layer read, mean over layers and questions."""
    ttft_ms: float
    """Median time to the first token, milliseconds."""

    @property
    def drop(self) -> float:
        """Mean of ``drops``."""
        return float(self.drops.mean())

    def bound(self, confidence: float) -> float:
        """What the drop is at most on questions of this kind, with this confidence."""
        return upper_bound(self.drops, confidence)


def scores(
    questions: Sequence[Question], texts: Sequence[str], unpruned: Sequence[str]
) -> np.ndarray:
    """``(questions,)``: 1 for an answer that is right, or, where the question does not say what is
    right, that is the unpruned model's; else 0."""
    return np.array(
        [
            float(is_right(text, question.answers) if question.answers else same_text(text, own))
            for question, text, own in zip(questions, texts, unpruned, strict=True)
        ]
    )


def measure(
    questions: Sequence[Question],
    asked: Sequence[ModelAnswer],
    unpruned: Sequence[ModelAnswer],
) -> Measured:
    """Compare answers with those of the unpruned model to the same questions."""
    own = [one.text for one in unpruned]
    reached = scores(questions, [one.text for one in asked], own)
    right = [score for score, q in zip(reached, questions, strict=True) if q.answers]
    pairs = list(zip(asked, unpruned, strict=True))
    return Measured(
        accuracy=float(np.mean(right)) if right else None,
        agreement=fmean(same_text(a.text, b.text) for a, b in pairs),
        token_agreement=fmean(token_agreement(a.tokens, b.tokens) for a, b in pairs),
        score=float(reached.mean()),
        drops=scores(questions, own, own) - reached,
        average_tokens=fmean(one.average_tokens for one in asked),
        ttft_ms=median(one.ttft_ms for one in asked),
    )
