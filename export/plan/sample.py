"""The golden sample: what every exported model is asked, and how much room that takes."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageDraw

from ...runtime.preprocessing.base import Medium

PROMPT = "What is in the picture?"
VIDEO_FRAMES = 2
"""Frames of the sample video, of models that take videos."""
STEPS = 12
"""Greedy tokens compared."""


def sample_image() -> Image.Image:
    """A drawn picture, the same for every model: sky, ground, and a few plain things."""
    image = Image.new("RGB", (320, 240))
    draw = ImageDraw.Draw(image)
    for y in range(240):
        draw.line([(0, y), (320, y)], fill=(60 + y // 2, 120 + y // 4, 200 - y // 2))
    draw.rectangle([0, 170, 320, 240], fill=(70, 120, 60))
    draw.ellipse([30, 25, 80, 75], fill=(250, 220, 60))
    draw.rectangle([190, 110, 260, 190], fill=(170, 50, 40))
    draw.polygon([(180, 110), (225, 70), (270, 110)], fill=(90, 40, 30))
    draw.rectangle([215, 150, 235, 190], fill=(40, 30, 20))
    draw.text((110, 200), "VTP 42", fill=(255, 255, 255))
    return image


@dataclass(frozen=True)
class Sample:
    """What is asked."""

    media: list[Medium]
    """The picture, preprocessed, or its frames; one for each placeholder."""
    size: tuple[int, int]
    """Its height and width in pixels."""
    prompt: list[int]
    """Token ids with a placeholder for each."""
    placeholders: list[int]
    frames: int = 0
    """Of a video; 0 for an image."""
