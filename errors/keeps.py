"""How many tokens shall be kept: numbers that cannot be."""

from __future__ import annotations

from collections.abc import Sequence

from .base import VtpError, listed


class KeepOutOfRange(VtpError, ValueError):
    """A keep that is neither a ratio in (0, 1] nor a count in 1..total, or cannot be had."""

    def __init__(self, keep: object, total: int | None = None, *, prunes: bool = True) -> None:
        if not prunes:
            super().__init__(
                f"keep {keep!r} is out of range: this bundle does not prune, so all {total} image "
                "tokens are kept; leave keep out, or export the model with a pruning method"
            )
            return
        count = f"1..{total}" if total else "at least 1"
        super().__init__(
            f"keep {keep!r} is out of range: give a ratio above 0 and up to 1.0 (such as 0.1), "
            f"or a whole number of tokens per image, {count}"
        )


class KeepCountMismatch(VtpError, ValueError):
    """Another number of keeps than the plan has drops."""

    def __init__(self, given: Sequence[object], layers: Sequence[int], total: int) -> None:
        places = ", ".join(
            "the vision graph" if layer == 0 else f"layer {layer}" for layer in layers
        )
        super().__init__(
            f"{len(given)} keep(s) were given ({listed(given)}), but tokens are dropped at "
            f"{len(layers)} place(s) ({places}): give one keep for each place in this order, "
            f"separated by commas, each relative to all {total} tokens of an image; or 1.0 to drop "
            "none; or an average over the layers (--average). To try several keeps, repeat --keep "
            "(vtp profile, vtp calibrate keep)"
        )


class KeepGrows(VtpError, ValueError):
    """A later drop that keeps more than an earlier one left."""

    def __init__(self, keeps: Sequence[object]) -> None:
        super().__init__(
            f"keeps {listed(keeps)} grow, but dropped tokens cannot come back: give keeps that "
            "fall or stay equal (each is relative to all tokens of an image)"
        )


class ImagesDiffer(VtpError, ValueError):
    """A budget for each image, and images with different numbers of tokens."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__(
            f"images of {listed(sizes)} tokens cannot be pruned together: inside the decoder, this "
            "plan keeps the same number of tokens of each image; ask about one image at a time, or "
            "export the model with --set budget=all"
        )


class AverageOutOfReach(VtpError, ValueError):
    """An average below what the layers before the first drop see."""

    def __init__(self, average: object, least: float) -> None:
        super().__init__(
            f"an average of {average} is out of reach: the layers before the first drop read every "
            f"token, so the average of this plan is at least {least:.3f}; drop tokens at an "
            "earlier layer, or in the vision graph too (--method fastervlm+NAME)"
        )
