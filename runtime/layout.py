"""Where image tokens stand in a sequence, and which numbers its tokens carry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .engines.base import Buffer


@dataclass(frozen=True, kw_only=True, eq=False)
class Layout:
    """The sequence that a language stage reads in one prefill."""

    positions: np.ndarray
    """``(tokens,)`` int64: number of each token."""
    image_rows: np.ndarray
    """``(m,)`` int64, ascending: rows of the image tokens."""
    images: np.ndarray
    """``(m,)`` int64: which image each belongs to; -1 for a token merged from several."""
    patches: np.ndarray
    """``(m,)`` int64: which patch it stands for; -1 for none."""
    count: int
    """Images of the prompt."""

    @property
    def tokens(self) -> int:
        """All rows."""
        return len(self.positions)

    @property
    def text_rows(self) -> np.ndarray:
        """``(tokens - m,)`` int64, ascending: all other rows."""
        is_text = np.ones(self.tokens, dtype=bool)
        is_text[self.image_rows] = False
        return np.flatnonzero(is_text)

    @property
    def rows_behind(self) -> np.ndarray:
        """Rows after the last image token."""
        return np.arange(self.image_rows[-1] + 1, self.tokens)

    def groups(self, budget: str) -> int:
        """Into how many equal parts a budget divides the image tokens."""
        return self.count if budget == "image" else 1

    def kept_of_images(self) -> tuple[np.ndarray, ...]:
        """For each image the patches that are left, ascending; merged tokens are left out."""
        return tuple(self.patches[self.images == image] for image in range(self.count))

    def after(self, kept: np.ndarray, merged: int, renumber: int | None) -> Layout:
        """The layout behind a drop.

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
            positions = self.positions[order[source].astype(np.int64)]
        else:
            positions = renumber + np.arange(len(source))
        lost = np.full(merged, -1)
        return Layout(
            positions=positions,
            image_rows=new_rows,
            images=np.concatenate([self.images[chosen], lost]),
            patches=np.concatenate([self.patches[chosen], lost]),
            count=self.count,
        )


@dataclass(frozen=True)
class Prompt:
    """A turn, ready to be read."""

    embeds: Buffer
    """``(1, tokens, width)``."""
    layout: Layout
    next_position: int
    """Number of the token after it."""
