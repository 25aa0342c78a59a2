"""The smallest keep that costs no more than a bound, by bundle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from ..errors import AverageOutOfReach, BoundNotMet, KeepGrows, NotCalibratable
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.keep import Keep, Keeps, keep_count, show_keeps
from .answers import Answerer
from .bound import needed
from .measure import Measured, measure

LADDER = (0.75, 0.5, 0.35, 0.25, 0.18, 0.125, 0.09, 0.0625, 0.045, 0.03)
"""Keeps that are tried without being told, or averages of plans that drop at several places."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a keep has to meet."""

    max_drop: float
    """Most accuracy (or agreement) that may be lost, as a share."""
    confidence: float
    """Chance that it is not more on questions of the same kind; 0 takes the measured drop."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredKeep:
    """One keep of one bundle."""

    bundle: Bundle
    keep: tuple[Keep, ...]
    measured: Measured
    bound: float
    """Upper bound of the drop, as a share."""
    within: bool
    """Whether the bound is within the wish, and that of every larger keep too."""


def candidates(
    bundle: Bundle, keeps: Sequence[Keeps], averages: Sequence[Keep]
) -> tuple[list[tuple[Keep, ...]], str | None]:
    """Keeps to try, the largest first, after ``1.0`` that drops nothing.

    Args:
        bundle: the bundle.
        keeps: those asked for.
        averages: those asked for by what a language layer reads in the mean; where neither is
            given, ``LADDER``.

    Returns:
        One for each drop, and why smaller averages of ``LADDER`` were left out.

    Raises:
        KeepOutOfRange, KeepCountMismatch, KeepGrows, AverageOutOfReach: of what was asked for.
        NotCalibratable: the bundle never drops anything.
    """
    plan = bundle.manifest.plan
    if not plan.drops:
        raise NotCalibratable(
            bundle.path, "it does not prune; export the model with a method (vtp list methods)"
        )
    found = {(1.0,) * len(plan.drops): float(plan.tokens)}
    left_out: str | None = None
    asked = [plan.keeps(keep) for keep in keeps]
    asked += [plan.keeps_for_average(average) for average in averages]
    if not keeps and not averages:
        for level in LADDER:
            if len(plan.drops) == 1:
                asked.append((level,))
                continue
            try:
                asked.append(plan.keeps_for_average(level))
            except AverageOutOfReach as error:
                # And so are the smaller ones.
                left_out = str(error)
                break
    seen = {(plan.tokens,) * len(plan.drops)}
    for keep in asked:
        counts = tuple(
            keep_count(one, plan.tokens, drop.rounding)
            for one, drop in zip(keep, plan.drops, strict=True)
        )
        if list(counts) != sorted(counts, reverse=True):
            raise KeepGrows(keep)
        if counts not in seen:
            seen.add(counts)
            found[keep] = plan.average(plan.counts(keep, 1), 1)
    return sorted(found, key=lambda keep: -found[keep]), left_out


def calibrate_keep(
    asker: Answerer, points: Sequence[tuple[Keep, ...]], wish: Wish
) -> list[MeasuredKeep]:
    """Measure a bundle at several keeps.

    Which keeps are within the wish is asked from the largest on, and ends with the first that is
    not: then the chance that one of them is too small is no more than that of a single test
    (fixed-sequence testing, as in "Learn then Test", https://arxiv.org/abs/2110.01052).

    Args:
        asker: of the bundle.
        points: as from ``candidates``: the first drops nothing.
        wish: what to meet.
    """
    bundle = asker.pipeline.bundle
    answers = asker.ask(points)
    rows: list[MeasuredKeep] = []
    within = True
    for number, keep in enumerate(points):
        measured = measure(asker.data.questions, answers[keep], answers[points[0]])
        bound = measured.bound(wish.confidence) if number else 0.0
        within = within and bound <= wish.max_drop
        rows.append(
            MeasuredKeep(bundle=bundle, keep=keep, measured=measured, bound=bound, within=within)
        )
    return rows


def choose(rows: Sequence[MeasuredKeep], wish: Wish) -> MeasuredKeep:
    """The smallest keep of a bundle that is within the wish.

    Raises:
        BoundNotMet: none is but the one that drops nothing; tells the best found.
    """
    pruned = rows[1:]
    within = [row for row in pruned if row.within]
    if within:
        return within[-1]
    asked = f"a drop of at most {100 * wish.max_drop:g} points"
    if wish.confidence:
        asked += f" at {100 * wish.confidence:g} % confidence"
    if not pruned:
        raise BoundNotMet(asked, "no keep below 1.0 was tried", "give smaller keeps (--keep)")
    # In the order of the test, the bound that the first misses is the least that can be asked for.
    least = pruned[0].bound
    reached = list(takewhile(lambda row: row.bound <= least, pruned))[-1]
    lines = len(reached.measured.drops)
    found = (
        f"the best of {str(reached.bundle.path)!r} is keep {show_keeps(reached.keep)} with a drop "
        f"of {100 * reached.measured.drop:.2f} points on these {lines} lines"
    )
    ways = [f"allow more (--max-drop {math.ceil(1e4 * least) / 100:g} gives that keep)"]
    if wish.confidence:
        found += f", and at most {100 * reached.bound:.2f} on similar lines"
        if lines < (more := needed(wish.max_drop, wish.confidence)):
            ways.append(f"give more lines ({more} if no answer changes)")
    ways.append("give larger keeps (--keep)")
    raise BoundNotMet(asked, found, ", or ".join(ways))


def pareto(rows: Sequence[MeasuredKeep]) -> list[bool]:
    """For each row whether no other is both faster and better: less time to the first token at no
    lower score, or a higher score in no more time."""
    figures = [(row.measured.ttft_ms, -row.measured.score) for row in rows]
    return [not any(_beats(other, own) for other in figures) for own in figures]


def _beats(other: tuple[float, float], own: tuple[float, float]) -> bool:
    return other != own and other[0] <= own[0] and other[1] <= own[1]
