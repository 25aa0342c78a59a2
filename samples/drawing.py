"""Outlines of the shapes and digits, and the soft background that they stand on."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 40),
    "orange": (245, 135, 25),
    "yellow": (245, 220, 45),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "purple": (145, 50, 175),
    "black": (22, 22, 24),
    "white": (246, 246, 246),
}
"""Name -> RGB of everything a shape can be painted in."""

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "diamond", "ring")

SUPERSAMPLE = 4


def _arc(cx: float, cy: float, rx: float, ry: float, start: float, stop: float) -> list[Point]:
    angles = np.linspace(math.radians(start), math.radians(stop), 25)
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def _star(inner: float = 0.42) -> list[Point]:
    radii = (1.05 if i % 2 == 0 else inner for i in range(10))
    return [
        (r * math.sin(i * math.pi / 5), 0.08 - r * math.cos(i * math.pi / 5))
        for i, r in enumerate(radii)
    ]


def _heart() -> list[Point]:
    turns = np.linspace(0, 2 * math.pi, 60)
    x = 16 * np.sin(turns) ** 3
    y = 13 * np.cos(turns) - 5 * np.cos(2 * turns) - 2 * np.cos(3 * turns) - np.cos(4 * turns)
    return [(float(a) / 16, -(float(b) + 2.5) / 15) for a, b in zip(x, y, strict=True)]


_ARM = 0.34
_OUTLINES: dict[str, list[Point]] = {
    "circle": _arc(0, 0, 0.95, 0.95, 0, 360),
    "square": [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)],
    "triangle": [(0.0, -0.95), (1.0, 0.82), (-1.0, 0.82)],
    "star": _star(),
    "cross": [
        (-_ARM, -0.95), (_ARM, -0.95), (_ARM, -_ARM), (0.95, -_ARM), (0.95, _ARM), (_ARM, _ARM),
        (_ARM, 0.95), (-_ARM, 0.95), (-_ARM, _ARM), (-0.95, _ARM), (-0.95, -_ARM), (-_ARM, -_ARM),
    ],
    "heart": _heart(),
    "diamond": [(0, -1.05), (0.72, 0), (0, 1.05), (-0.72, 0)],
    "ring": _arc(0, 0, 1.0, 1.0, 0, 360),
}  # fmt: skip
_RING_HOLE = _arc(0, 0, 0.52, 0.52, 0, 360)

# Strokes of each digit in a box of 1 x 1.6 (x to the right, y down).
_DIGITS: dict[str, list[list[Point]]] = {
    "0": [_arc(0.5, 0.8, 0.42, 0.72, 0, 360)],
    "1": [[(0.22, 0.38), (0.55, 0.08), (0.55, 1.52)]],
    "2": [[*_arc(0.5, 0.48, 0.4, 0.4, 190, 390), (0.08, 1.5), (0.94, 1.5)]],
    "3": [_arc(0.45, 0.44, 0.4, 0.36, 200, 450), _arc(0.45, 1.14, 0.44, 0.38, 270, 520)],
    "4": [[(0.7, 1.52), (0.7, 0.08), (0.06, 1.08), (0.98, 1.08)]],
    "5": [[(0.88, 0.1), (0.2, 0.1), (0.14, 0.7), *_arc(0.46, 1.04, 0.42, 0.44, 230, 510)]],
    "6": [[(0.76, 0.08), (0.3, 0.55), (0.1, 1.05)], _arc(0.5, 1.08, 0.4, 0.42, 0, 360)],
    "7": [[(0.06, 0.1), (0.94, 0.1), (0.38, 1.52)]],
    "8": [_arc(0.5, 0.44, 0.34, 0.34, 0, 360), _arc(0.5, 1.14, 0.42, 0.38, 0, 360)],
    "9": [[(0.24, 1.52), (0.7, 1.05), (0.9, 0.55)], _arc(0.5, 0.52, 0.4, 0.42, 0, 360)],
}


def shape_mask(shape: str, size: float, scale: float, angle: float) -> Image.Image:
    """Antialiased mask ("L") of a shape `size` units across, at `scale` pixels per unit."""
    side = max(2, math.ceil(size * scale))
    big = side * SUPERSAMPLE
    radius, middle = size * scale * SUPERSAMPLE / 2 * 0.95, big / 2
    cos, sin = math.cos(angle), math.sin(angle)

    def placed(points: list[Point]) -> list[Point]:
        return [
            (middle + radius * (x * cos - y * sin), middle + radius * (x * sin + y * cos))
            for x, y in points
        ]

    mask = Image.new("L", (big, big))
    pen = ImageDraw.Draw(mask)
    pen.polygon(placed(_OUTLINES[shape]), fill=255)
    if shape == "ring":
        pen.polygon(placed(_RING_HOLE), fill=0)
    return mask.resize((side, side), Image.Resampling.BOX)


def tile_mask(text: str, width: float, height: float, scale: float) -> Image.Image:
    """Antialiased mask ("L") of the strokes of `text` on a tile of `width` x `height` units."""
    size = (round(width * scale), round(height * scale))
    factor = scale * SUPERSAMPLE
    mask = Image.new("L", (size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE))
    pen = ImageDraw.Draw(mask)
    cell = width / len(text)
    tall = height * 0.74
    wide = tall / 1.6 * 0.95
    stroke = max(1, round(height * 0.125 * factor))
    for i, digit in enumerate(text):
        left, top = i * cell + (cell - wide) / 2, (height - tall) / 2
        for line in _DIGITS[digit]:
            points = [
                ((left + x * wide) * factor, (top + y * tall / 1.6) * factor) for x, y in line
            ]
            pen.line(points, fill=255, width=stroke, joint="curve")
    return mask.resize(size, Image.Resampling.BOX)


def background(seed: int, side: int) -> Image.Image:
    """A soft, dull background of `side` x `side` pixels with faint blotches and clutter lines."""
    rng = np.random.default_rng(seed)
    base = rng.uniform(95, 170) + rng.uniform(-14, 14, 3)
    cells = int(rng.integers(2, 9))
    blotches = base + rng.normal(0, rng.uniform(3, 12), (cells, cells, 1))
    blotches = blotches + rng.normal(0, 4, (cells, cells, 3))
    small = Image.fromarray(np.clip(blotches, 0, 255).astype(np.uint8))
    image = small.resize((side, side), Image.Resampling.BICUBIC)
    big = image.resize((side * 2, side * 2), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(big)
    for _ in range(int(rng.integers(2, 9))):
        tone = tuple(int(v) for v in np.clip(base + rng.uniform(-30, 30, 3), 0, 255))
        ends = rng.uniform(-0.1, 1.1, 4) * side * 2
        pen.line(
            tuple(float(v) for v in ends), fill=tone, width=int(rng.integers(1, 4)) * side // 96
        )
    smooth = big.resize((side, side), Image.Resampling.BOX)
    grain = rng.normal(0, rng.uniform(0, 4), (64, 64)).astype(np.float32)
    fine = np.asarray(Image.fromarray(grain).resize((side, side), Image.Resampling.BILINEAR))
    noisy = np.asarray(smooth, np.float32) + fine[..., None]
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
