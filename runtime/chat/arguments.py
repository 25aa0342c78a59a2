"""Image first, prompt second: what a caller gave in which order (docs/decisions/0027)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...errors import ArgumentsSwapped, EmptyPrompt
from ..media.images import is_image_file


def ordered(image: Any, prompt: str | None) -> tuple[Any, str]:
    """Image and prompt of a call; a text alone is the prompt.

    Raises:
        ArgumentsSwapped: the prompt is an image, or the path of one where the image is none.
        EmptyPrompt: an image alone.
    """
    if prompt is None:
        if not isinstance(image, str) or is_image_file(image):
            raise EmptyPrompt()
        return None, image
    if not isinstance(prompt, str):
        raise ArgumentsSwapped(prompt)
    texts = [image] if isinstance(image, str) else image
    if (
        isinstance(texts, Sequence)
        and texts
        and all(isinstance(text, str) and not is_image_file(text) for text in texts)
        and is_image_file(prompt)
    ):
        raise ArgumentsSwapped(prompt)
    return image, prompt
