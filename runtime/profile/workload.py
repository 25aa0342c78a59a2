"""What is asked in a profile: images, prompt, keeps, new tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import AverageOutOfReach, OptionInvalid
from ..bundle.keep import Keep, Keeps, keep_ratio, parse_keep, parse_keeps, show_keeps
from ..bundle.plan import Plan
from ..bundle.prompt import IN_ONE_PIECE, Pieces
from ..chat.media import prepare, read_media
from ..model.loaded import LoadedBundle

WHOLE = "1.0"
"""The keep that everything is compared with."""
TEXT_ONLY = "text only"
"""The point without image: what a prompt costs whose image tokens are free."""
DEFAULT_KEEPS = (1.0, 0.5, 0.25, 0.1, 0.05)
_FILLERS = ("the", "a", "one", "is", "x", "of")
_NEAR = (0, -1, 1, -2, 2, -3, 3)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One of the requests that take turns."""

    label: str
    """The keep, the average, or ``TEXT_ONLY``."""
    keeps: tuple[Keep, ...]
    """One for each place where the plan drops."""
    order: float
    """Ascends with what is kept."""

    @property
    def has_images(self) -> bool:
        """Whether the images are asked about."""
        return self.label != TEXT_ONLY


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The requests of a profile."""

    points: tuple[Point, ...]
    """Keep 1.0 first, the point without image last."""
    images: tuple[Any, ...]
    """As for ``Pipeline.stream``."""
    prompt: str
    text_only_prompt: str
    new_tokens: int
    """Tokens of every answer: end tokens do not end it."""


def points(
    plan: Plan, keeps: Sequence[Keeps | str] | None, averages: Sequence[Keep | str] = ()
) -> tuple[Point, ...]:
    """The points to measure; keep 1.0 is always among them.

    Args:
        plan: the bundle's.
        keeps: each is one keep, or one for each place where the plan drops, as numbers or as
            typed (``0.5,0.25``). None takes ``DEFAULT_KEEPS``, as averages where the plan drops at
            several places (as far as it reaches them), and then the bundle's own keeps too.
        averages: mean over the layers of what they read, each.

    Raises:
        KeepOutOfRange, KeepCountMismatch, AverageOutOfReach: a keep that the plan does not take.
    """
    found = {WHOLE: Point(label=WHOLE, keeps=plan.keeps(1.0), order=float("inf"))}
    several = len(plan.drops) > 1

    def add(point: Point) -> None:
        if point.keeps != found[WHOLE].keeps:
            found.setdefault(point.label, point)

    for keep in () if keeps is None else keeps:
        add(_point(plan, parse_keeps(keep) if isinstance(keep, str) else keep))
    for average in averages:
        add(_of_average(plan, parse_keep(average) if isinstance(average, str) else average))
    if keeps is None and not averages and plan.drops:
        for level in DEFAULT_KEEPS:
            try:
                add(_of_average(plan, level) if several else _point(plan, level))
            except AverageOutOfReach:
                continue
        if several:
            own = plan.keeps(None)
            label = ",".join(f"{keep:.3g}" for keep in own)
            found[label] = Point(label=label, keeps=own, order=_order(plan, own))
    return (*found.values(), Point(label=TEXT_ONLY, keeps=(), order=0.0))


def _point(plan: Plan, keep: Keeps) -> Point:
    given = tuple(keep) if isinstance(keep, Sequence) else (keep,)
    keeps = plan.keeps(given)
    return Point(label=show_keeps(given), keeps=keeps, order=_order(plan, keeps))


def _of_average(plan: Plan, average: Keep) -> Point:
    keeps = plan.keeps_for_average(average)
    # With one drop, an average is a keep: it is named so.
    label = str(average) if len(plan.drops) > 1 else show_keeps(keeps)
    return Point(label=label, keeps=keeps, order=_order(plan, keeps))


def _order(plan: Plan, keeps: Sequence[Keep]) -> float:
    return sum(keep_ratio(keep, plan.tokens) for keep in keeps)


def make_workload(
    loaded: LoadedBundle,
    *,
    keeps: Sequence[Keeps | str] | None = None,
    averages: Sequence[Keep | str] = (),
    images: Sequence[Any] = (),
    prompt: str | None = None,
    prompt_tokens: int | None = None,
    new_tokens: int = 32,
) -> Workload:
    """What to ask a bundle.

    Args:
        loaded: the bundle.
        keeps: as for ``points``.
        averages: as for ``points``.
        images: images and videos; none takes the bundle's golden image.
        prompt: the question; None takes the bundle's golden one.
        prompt_tokens: instead, a question of as many text tokens, the chat template's included.
        new_tokens: tokens of every answer.

    Raises:
        VtpError: a keep, image or number that does not fit.
    """
    bundle = loaded.bundle
    golden, layout = bundle.manifest.golden, bundle.manifest.prompt
    if new_tokens < 1:
        raise OptionInvalid("new tokens", new_tokens, "a count of at least 1")
    chosen = points(bundle.manifest.plan, keeps, averages)
    shown = tuple(images) or (Path(bundle.file(golden.image)),)
    read = read_media(list(shown), bundle.manifest.preprocessing, loaded.max_pixels)
    question = golden.prompt if prompt is None else prompt
    bare = question.replace(layout.image_token, "")
    if layout.video is not None:
        bare = bare.replace(layout.video.token, "")
    if prompt_tokens is not None:
        media = prepare(read, bundle.manifest.preprocessing, layout)
        question = _of_length(loaded, prompt_tokens, media.kinds, media.pieces)
        bare = _of_length(loaded, prompt_tokens, (), IN_ONE_PIECE)
    return Workload(
        points=chosen,
        images=shown,
        prompt=question,
        text_only_prompt=bare.strip() or _FILLERS[0],
        new_tokens=new_tokens,
    )


def _of_length(loaded: LoadedBundle, tokens: int, kinds: Sequence[str], pieces: Pieces) -> str:
    """A question that makes a prompt of ``tokens`` text tokens: one word, again and again."""
    layout, places = loaded.bundle.manifest.prompt, loaded.bundle.manifest.prompt.placeholders

    def count(word: str, times: int) -> int:
        turn = layout.render_turn(" ".join([word] * times), kinds, True, pieces)
        return sum(token not in places for token in loaded.text.encode(turn))

    least = min(count(word, 1) for word in _FILLERS)
    if tokens < least:
        raise OptionInvalid("prompt tokens", tokens, f"at least {least}, for the chat template")
    for word in _FILLERS:
        times = tokens - count(word, 1) + 1
        for more in _NEAR:
            if times + more > 0 and count(word, times + more) == tokens:
                return " ".join([word] * (times + more))
    raise OptionInvalid("prompt tokens", tokens, "another number: no word makes exactly that many")
