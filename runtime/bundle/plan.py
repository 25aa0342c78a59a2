"""The plan: where image tokens are dropped, how many stay, by which score and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ...errors import (
    AverageOutOfReach,
    ImagesDiffer,
    KeepCountMismatch,
    KeepGrows,
    KeepOutOfRange,
    ManifestInvalid,
)
from .keep import ROUNDINGS, Keep, Keeps, check_keep, keep_count, keep_ratio

POSITIONS = ("compact", "original", "compact-per-stage")
"""How kept tokens are numbered.

``original``: as if nothing had been dropped. ``compact``: anew, without gaps, after the vision
graph; drops in the decoder keep the numbers. ``compact-per-stage``: anew after every drop.
"""
BUDGETS = ("image", "all")
"""Whether a drop keeps its share of each image, or the best of all images of a prompt together."""
_BISECTIONS = 60


@dataclass(frozen=True, kw_only=True)
class MethodRecord:
    """A method that the plan came from."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Drop:
    """One place where image tokens are dropped."""

    layer: int
    """First language layer that sees the kept tokens only; 0: the vision graph drops."""
    keep: Keep
    """Default keep, of the tokens of the whole image, not of those that arrive."""
    score: str
    """What ranks the tokens."""
    score_layer: int | None
    """Layer that the score is read from (of the vision tower where ``layer`` is 0, else of the
    decoder), counted from 0; None if it comes from no layer."""
    rounding: str = "half-even"
    """How a ratio becomes a count: one of ``ROUNDINGS``."""
    budget: str = "image"
    """One of ``BUDGETS``."""
    recycle: float | None = None
    """Share of the dropped tokens that are merged into a few that stay (token recycling of
    SparseVLM, arXiv 2410.04417); None merges none."""

    def __post_init__(self) -> None:
        if not 0 <= self.layer <= 2**10:
            raise ManifestInvalid("plan.drops.layer", f"{self.layer} is not a layer")
        if self.rounding not in ROUNDINGS:
            raise ManifestInvalid("plan.drops.rounding", f"{self.rounding!r} is not in {ROUNDINGS}")
        if self.budget not in BUDGETS:
            raise ManifestInvalid("plan.drops.budget", f"{self.budget!r} is not in {BUDGETS}")
        if self.layer == 0 and (self.budget != "image" or self.recycle is not None):
            raise ManifestInvalid("plan.drops", "the vision graph drops image by image, unmerged")
        if self.recycle is not None and not 0 < self.recycle <= 1:
            raise ManifestInvalid("plan.drops.recycle", f"{self.recycle} is not in (0, 1]")

    def merged(self, dropped: int) -> int:
        """Tokens that ``dropped`` tokens are merged into: ``int(int(0.3 p + 1) / 10) + 1`` at
        0.3."""
        if self.recycle is None or dropped == 0:
            return 0
        return int(recycled(self.recycle, dropped) / 10) + 1


def recycled(share: float, dropped: int) -> int:
    """How many of ``dropped`` tokens take part in the merge."""
    return min(dropped, int(share * dropped) + 1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A run of language layers with one KV length."""

    first: int
    """First layer."""
    stop: int
    """One past the last layer."""

    @property
    def layers(self) -> int:
        """How many."""
        return self.stop - self.first


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Image tokens of a prompt before any is dropped."""

    tiles: tuple[int, ...]
    """Tokens of every tile of all images: the tower makes them in one run."""
    sizes: tuple[int, ...]
    """Tokens of every image as the prompt reads it: with separators, without padding."""
    separators: int = 0
    """Learned rows between tokens of tiles, which the vision graph does not drop."""

    @property
    def total(self) -> int:
        """Tokens of all images."""
        return sum(self.sizes)

    @property
    def images(self) -> int:
        """How many."""
        return len(self.sizes)


@dataclass(frozen=True, kw_only=True)
class GuideRecord:
    """The language graph tells which image tokens its text attended to (SGL, arXiv 2412.03324)."""

    include_last_visual_row: bool
    """Whether the row of the last image token counts too, as in the published code."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a bundle prunes, as plain data."""

    methods: tuple[MethodRecord, ...]
    """Where it came from; none for a bundle without pruning."""
    tokens: int
    """Image tokens of one tile before pruning; where that depends on the image, of the sample's."""
    grid: tuple[int, int]
    """Rows and columns of them."""
    layers: int
    """Layers of the decoder."""
    drops: tuple[Drop, ...]
    """In order; none for a bundle without pruning."""
    positions: str
    """One of ``POSITIONS``."""
    guide: GuideRecord | None = None
    """Set where the bundle can guide a larger model."""

    def __post_init__(self) -> None:
        if self.tokens != self.grid[0] * self.grid[1] or self.tokens < 1:
            raise ManifestInvalid("plan.grid", f"{self.grid} does not hold {self.tokens} tokens")
        if self.positions not in POSITIONS:
            raise ManifestInvalid("plan.positions", f"{self.positions!r} is not in {POSITIONS}")
        layers = [drop.layer for drop in self.drops]
        if layers != sorted(set(layers)) or (layers and layers[-1] >= self.layers):
            raise ManifestInvalid(
                "plan.drops", f"layers {layers} do not ascend within the {self.layers} layers"
            )
        budgets = [drop.budget for drop in self.drops]
        if budgets != sorted(budgets, key=BUDGETS.index):
            raise ManifestInvalid(
                "plan.drops", "a budget for each image cannot follow a budget for all images"
            )
        if self.guide is not None and any(layers):
            raise ManifestInvalid("plan.guide", "a guide cannot drop tokens in its decoder")
        try:
            for drop in self.drops:
                check_keep(drop.keep, self.tokens)
            self.counts(None, 1)
        except (KeepOutOfRange, KeepGrows) as error:
            raise ManifestInvalid("plan.drops.keep", str(error)) from error

    @property
    def name(self) -> str:
        """The methods' names with ``+`` between, or ``none``."""
        return "+".join(record.name for record in self.methods) or "none"

    @property
    def vision_drop(self) -> Drop | None:
        """The drop in the vision graph, if there is one."""
        return next((drop for drop in self.drops if drop.layer == 0), None)

    @property
    def decoder_drops(self) -> tuple[Drop, ...]:
        """The drops between language stages, in order."""
        return tuple(drop for drop in self.drops if drop.layer > 0)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The language graphs, in order."""
        edges = [0, *(drop.layer for drop in self.decoder_drops), self.layers]
        return tuple(Stage(first=a, stop=b) for a, b in pairwise(edges))

    def gapless(self, stage: int) -> bool:
        """Whether the numbers of the tokens in a language stage count up without gaps."""
        if self.positions == "original":
            return not self.drops or (stage == 0 and self.vision_drop is None)
        return self.positions == "compact-per-stage" or stage == 0

    @property
    def needs_guide(self) -> bool:
        """Whether a drop is ranked by another, smaller model."""
        return any(drop.score == "guide" for drop in self.drops)

    def keeps(self, keep: Keeps | None) -> tuple[Keep, ...]:
        """One keep for each drop; ``None`` means the defaults.

        Raises:
            KeepOutOfRange: below all tokens where the bundle does not prune.
            KeepCountMismatch: fewer or more keeps than drops.
        """
        if keep is None:
            return tuple(drop.keep for drop in self.drops)
        given: tuple[Keep, ...]
        if isinstance(keep, Sequence) and not isinstance(keep, (str, bytes)):
            given = tuple(keep)
        else:
            given = (keep,)  # type: ignore[assignment]
        if not self.drops:
            for one in given:
                if keep_count(one, self.tokens) != self.tokens:
                    raise KeepOutOfRange(one, self.tokens, prunes=False)
            return ()
        if len(given) == 1 and given[0] == 1.0 and isinstance(given[0], float):
            return (1.0,) * len(self.drops)
        if len(given) != len(self.drops):
            raise KeepCountMismatch(given, [drop.layer for drop in self.drops], self.tokens)
        return given

    def of_size(self, tokens: int) -> Plan:
        """The same for images of another number of tokens; default keeps stay within it."""
        keeps = [min(d.keep, tokens) if isinstance(d.keep, int) else d.keep for d in self.drops]
        drops = tuple(replace(d, keep=keep) for d, keep in zip(self.drops, keeps, strict=True))
        return replace(self, tokens=tokens, grid=(1, tokens), drops=drops)

    def extent(self, images: int) -> Extent:
        """Of images of one tile each, with as many tokens as the plan says."""
        return Extent(tiles=(self.tokens,) * images, sizes=(self.tokens,) * images)

    def counts(
        self, keep: Keeps | None, images: int | Extent, arrived: int | None = None
    ) -> tuple[int, ...]:
        """Image tokens that are left after each drop, over all images of a prompt.

        Args:
            keep: one keep for each drop, or ``1.0`` for all; None means the defaults. A count is of
                each tile in the vision graph, of each image in the decoder.
            images: images in the prompt; a number of them has one tile each.
            arrived: tokens that left the vision graph, once that is known; before, padding that is
                dropped with kept tokens counts as kept.

        Raises:
            KeepOutOfRange, KeepCountMismatch: as for ``keeps``.
            KeepGrows: a drop would keep more than the one before it.
            ImagesDiffer: a budget for each image, of images of different sizes.
        """
        extent = self.extent(images) if isinstance(images, int) else images
        return self.counts_of_keeps(self.keeps(keep), extent, arrived)

    def counts_of_keeps(
        self, keeps: Sequence[Keep], extent: Extent, arrived: int | None = None
    ) -> tuple[int, ...]:
        """As ``counts``, of keeps that came from ``keeps``."""
        # What padding takes away is no fault of the keeps.
        exact = arrived is None and extent.total == sum(extent.tiles)
        counts: list[int] = []
        left = extent.total
        for drop, one in zip(self.drops, keeps, strict=True):
            share = self._share(drop, one, extent)
            if drop.layer == 0 and arrived is not None:
                share = arrived
            if share > left and exact:
                raise KeepGrows(keeps)
            share = min(share, left)
            # Merged tokens stay beside the kept ones.
            left = min(left, share + drop.merged(left - share))
            counts.append(share)
        return tuple(counts)

    def _share(self, drop: Drop, keep: Keep, extent: Extent) -> int:
        if drop.layer == 0:
            kept = sum(keep_count(keep, tokens, drop.rounding) for tokens in extent.tiles)
            whole = kept == sum(extent.tiles)
            return extent.total if whole else min(extent.total, kept + extent.separators)
        if drop.budget == "all" and isinstance(keep, float):
            return keep_count(keep, extent.total, drop.rounding) if extent.images else 0
        if drop.budget == "image" and len(set(extent.sizes)) > 1:
            raise ImagesDiffer(extent.sizes)
        return sum(keep_count(keep, size, drop.rounding) for size in extent.sizes)

    def tile_keep(self, keep: Keeps | None, tokens: int) -> int:
        """Tokens that the vision graph keeps of a tile of ``tokens``."""
        return self.tile_count(self.keeps(keep), tokens)

    def tile_count(self, keeps: Sequence[Keep], tokens: int) -> int:
        """As ``tile_keep``, of keeps that came from ``keeps``."""
        drop = self.vision_drop
        return tokens if drop is None else keep_count(keeps[0], tokens, drop.rounding)

    def in_decoder(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Those of ``counts`` that belong to drops inside the decoder."""
        return tuple(counts[len(self.drops) - len(self.decoder_drops) :])

    def tokens_of_stages(self, counts: Sequence[int], images: int | Extent) -> tuple[int, ...]:
        """Image tokens in each language stage, merged ones included; ``counts`` as from
        ``counts``."""
        extent = self.extent(images) if isinstance(images, int) else images
        left, seen = extent.total, []
        for drop, count in zip(self.drops, counts, strict=True):
            if drop.layer > 0:
                seen.append(left)
            left = count + drop.merged(left - count)
        return (*seen, left)

    def average(self, counts: Sequence[int], images: int | Extent) -> float:
        """Image tokens that a language layer sees, mean over the layers and images."""
        number = images if isinstance(images, int) else images.images
        if not number:
            return 0.0
        tokens = self.tokens_of_stages(counts, images)
        return sum(stage.layers * n for stage, n in zip(self.stages, tokens, strict=True)) / (
            self.layers * number
        )

    def keeps_for_average(self, average: Keep) -> tuple[Keep, ...]:
        """Keeps that let a language layer see this many tokens of an image in the mean.

        The default keeps, as ratios, are all raised to one power: a schedule keeps its shape. Of
        the keeps that reach no more than the average asked for, the highest.

        Raises:
            AverageOutOfReach: the layers before the first drop alone see more.
        """
        check_keep(average, self.tokens)
        wanted = keep_ratio(average, self.tokens) * self.tokens
        if not self.drops:
            return self.keeps(average)
        ratios = [keep_ratio(drop.keep, self.tokens) for drop in self.drops]
        # A default that keeps all has no shape to keep.
        ratios = [min(ratio, 1 - 1 / (2 * self.tokens)) for ratio in ratios]

        def schedule(power: float) -> tuple[Keep, ...]:
            return tuple(
                keep_count(max(ratio**power, 1e-9), self.tokens, drop.rounding)
                for ratio, drop in zip(ratios, self.drops, strict=True)
            )

        def reached(power: float) -> float:
            return self.average(self.counts(schedule(power), 1), 1)

        low, high = 0.0, 1.0
        while reached(high) > wanted:
            high *= 2
            if high > 2**20:
                raise AverageOutOfReach(average, reached(high) / self.tokens)
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (low, middle) if reached(middle) <= wanted else (middle, high)
        return schedule(high)
