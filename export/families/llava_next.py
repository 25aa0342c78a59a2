"""LLaVA-NeXT (LLaVA-1.6): LLaVA with tiles of any resolution
(https://llava-vl.github.io/blog/2024-01-30-llava-next/)."""

from __future__ import annotations

from typing import ClassVar

from .anyres import AnyRes


class LlavaNext(AnyRes):
    """``LlavaNextForConditionalGeneration`` of transformers."""

    name: ClassVar[str] = "llava_next"
    model_class: ClassVar[str] = "LlavaNextForConditionalGeneration"
