"""What a model reads of a turn, its keeps resolved; nothing has run yet."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ..bundle.keep import Keep
from ..bundle.plan import Extent, Plan
from ..preprocessing.base import SEPARATOR, Medium


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelInput:
    """Tokens and images of a turn, and how many image tokens stay at each place."""

    plan: Plan
    tokens: tuple[int, ...]
    """Token ids, one placeholder for each of ``media``."""
    media: tuple[Medium, ...]
    """Images and videos as the vision graph takes them."""
    text_tokens: int
    """Tokens that are no placeholder."""
    keeps: tuple[Keep, ...]
    """One for each drop of the plan."""
    tile_counts: tuple[int, ...]
    """For each of ``media`` the tokens that the vision graph keeps of a tile."""
    extent: Extent
    """Image tokens before any is dropped."""
    counts: tuple[int, ...]
    """Image tokens left after each drop, over all images; padding that the vision graph keeps
    counts too, because it is not known before that has run."""

    @property
    def stage_tokens(self) -> tuple[int, ...]:
        """Image tokens that each language stage reads, merged ones included."""
        return self.plan.tokens_of_stages(self.counts, self.extent)

    def counts_after_vision(self, arrived: int) -> tuple[int, ...]:
        """``counts``, once it is known how many image tokens left the vision graph."""
        return self.plan.counts_of_keeps(self.keeps, self.extent, arrived)


def model_input(
    plan: Plan,
    tokens: Sequence[int],
    placeholders: Collection[int],
    media: Sequence[Medium],
    keeps: tuple[Keep, ...],
) -> ModelInput:
    """Resolve a turn.

    Args:
        plan: where tokens are dropped.
        tokens: token ids, one placeholder for each of ``media``.
        placeholders: ids that stand for an image or a video.
        media: images and videos, preprocessed.
        keeps: one for each drop, as from ``Plan.keeps``.

    Raises:
        KeepOutOfRange, KeepGrows, ImagesDiffer: as for ``Plan.counts``.
    """
    tile_counts = tuple(plan.tile_count(keeps, medium.tile_tokens) for medium in media)
    ready = tuple(
        # Where tokens are dropped, none is made of others before.
        medium if count == medium.tile_tokens else medium.unshrunken()
        for medium, count in zip(media, tile_counts, strict=True)
    )
    extent = extent_of(ready)
    return ModelInput(
        plan=plan,
        tokens=tuple(tokens),
        media=ready,
        text_tokens=sum(token not in placeholders for token in tokens),
        keeps=keeps,
        tile_counts=tile_counts,
        extent=extent,
        counts=plan.counts_of_keeps(keeps, extent),
    )


def extent_of(media: Sequence[Medium]) -> Extent:
    """Image tokens of these images before any is dropped."""
    return Extent(
        tiles=tuple(medium.tile_tokens for medium in media for _ in medium.pixels),
        sizes=tuple(len(medium.order) for medium in media),
        separators=sum(int((medium.order == SEPARATOR).sum()) for medium in media),
    )
