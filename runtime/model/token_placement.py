"""Where image tokens stand in a sequence, and which numbers its tokens carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engines.base import Buffer


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenPlacement:
    """The sequence that a language stage reads in one prefill."""

    positions: np.ndarray
    """``(axes, tokens)`` int64: number of each token; one axis, or three (M-RoPE)."""
    image_rows: np.ndarray
    """``(m,)`` int64, ascending: rows of the image tokens."""
    images: np.ndarray
    """``(m,)`` int64: which image each belongs to; -1 for a token merged from several."""
    entries: np.ndarray
    """``(m,)`` int64: its place among all tokens of its image; -1 for none."""
    sizes: tuple[int, ...]
    """Image tokens of each image of the prompt that arrived at the decoder."""

    @property
    def tokens(self) -> int:
        """All rows."""
        return int(self.positions.shape[1])

    @property
    def text_rows(self) -> np.ndarray:
        """``(tokens - m,)`` int64, ascending: all other rows."""
        is_text = np.ones(self.tokens, dtype=bool)
        is_text[self.image_rows] = False
        return np.flatnonzero(is_text)

    @property
    def rows_after_images(self) -> np.ndarray:
        """Rows after the last image token."""
        return np.arange(self.image_rows[-1] + 1, self.tokens)

    def groups(self, budget: str) -> int:
        """Into how many equal parts a budget divides the image tokens."""
        return len(self.sizes) if budget == "image" else 1

    def kept_of_images(self) -> tuple[np.ndarray, ...]:
        """For each image the places that are left, in order; merged tokens are left out."""
        return tuple(self.entries[self.images == image] for image in range(len(self.sizes)))

    def renumbered(self, first: int, tokens: int) -> np.ndarray:
        """Numbers without gaps, ``(axes, tokens)``."""
        return np.tile(first + np.arange(tokens), (len(self.positions), 1))

    def after_drop(self, kept: np.ndarray, merged: int, renumber: int | None) -> TokenPlacement:
        """The placement behind a drop.

        Args:
            kept: ``(groups, keep)`` int64: which of each group's image tokens stay.
            merged: tokens merged from dropped ones, behind the last image token.
            renumber: number of the first token where all are numbered anew; None keeps the numbers.
        """
        groups = self.image_rows.reshape(len(kept), -1)
        rows = np.sort(np.take_along_axis(groups, kept, axis=1).ravel())
        chosen = np.searchsorted(self.image_rows, rows)
        behind = np.full(merged, self.image_rows[-1])
        order = np.concatenate([self.text_rows, rows, behind + 0.5])
        source = np.argsort(order, kind="stable")
        text = self.tokens - len(self.image_rows)
        is_image = source >= text
        new_rows = np.flatnonzero(is_image)
        if renumber is None:
            positions = self.positions[:, order[source].astype(np.int64)]
        else:
            positions = self.renumbered(renumber, len(source))
        lost = np.full(merged, -1)
        return TokenPlacement(
            positions=positions,
            image_rows=new_rows,
            images=np.concatenate([self.images[chosen], lost]),
            entries=np.concatenate([self.entries[chosen], lost]),
            sizes=self.sizes,
        )


@dataclass(frozen=True)
class SplicedPrompt:
    """A turn, ready to be read."""

    embeds: Buffer
    """``(1, tokens, row_width)``."""
    placement: TokenPlacement
    next_position: int
    """Number of the token after it."""
