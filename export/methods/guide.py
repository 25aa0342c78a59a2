"""Guide: a small model that tells a larger one which image tokens matter (SGL)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Method


@dataclass(frozen=True, kw_only=True)
class GuideMethod(Method):
    """Exports a model unpruned, its language graph with attention sums as one more output.

    The sum goes over all layers, all heads, the prompt's rows after the image and the rows of the
    generated tokens, in float32 (the published code adds up in bfloat16, whose ties make its choice
    of tokens hang on the kernel). https://arxiv.org/abs/2412.03324.
    """

    name: ClassVar[str] = "guide"
    summary: ClassVar[str] = "all tokens; the model becomes the guide of a larger one (for sgl)"
    paper: ClassVar[str | None] = "https://arxiv.org/abs/2412.03324"

    include_last_visual_row: bool = True
    """Whether the row of the last image token counts as one of the prompt's, as in the published
    code."""
