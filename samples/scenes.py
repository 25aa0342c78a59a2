"""Scenes made by seed: a few small shapes and a number tile, with questions and answers.

Coordinates are in units of 1/128 of the picture's side, so that one scene can be drawn at any
size. Needs numpy and Pillow only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

from .drawing import COLOURS, SHAPES, Point, background, shape_mask, tile_mask

UNITS = 128
KINDS = ("colour", "shape", "where", "count", "exists", "number", "describe")
"""Kinds of question. `describe` has long answers and is reported apart from the others."""

SHORT_KINDS = KINDS[:-1]
"""The kinds with answers of one or two words, which averages are taken over."""

CELLS = (
    "top left", "top center", "top right",
    "middle left", "center", "middle right",
    "bottom left", "bottom center", "bottom right",
)  # fmt: skip
"""Names of the 3 x 3 areas of the picture, in raster order."""

_EDGE_MARGIN = 4.0
_GAP = 4.0


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object of a scene: a shape, or the number tile."""

    name: str
    """A name from `SHAPES`, or the two digits that stand on the tile."""
    colour: str
    """A name from `COLOURS`; for the tile the colour of the plate."""
    x: float
    """Centre, in units from the left."""
    y: float
    """Centre, in units from the top."""
    width: float
    """Units across."""
    height: float
    """Units from top to bottom."""
    angle: float = 0.0
    """Rotation in radians; always 0 for the tile."""

    @property
    def is_tile(self) -> bool:
        """Whether this is the number tile."""
        return self.name.isdigit()

    @property
    def cell(self) -> int:
        """Index into `CELLS` of the area the centre lies in."""
        return int(self.y * 3 / UNITS) * 3 + int(self.x * 3 / UNITS)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is in a picture; `render` draws it."""

    things: tuple[Thing, ...]
    """Shapes in reading order (area by area, then left to right), the tile last."""
    background: int
    """Seed of the background."""

    @property
    def shapes(self) -> tuple[Thing, ...]:
        """The shapes, without the tile."""
        return tuple(t for t in self.things if not t.is_tile)

    @property
    def number(self) -> str | None:
        """The two digits on the tile, if there is one."""
        return next((t.name for t in self.things if t.is_tile), None)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question about one picture."""

    image: Image.Image
    """The drawn scene."""
    kind: str
    """A name from `KINDS`."""
    question: str
    """What is asked."""
    answer: str
    """The only accepted answer."""
    scene: Scene
    """What was drawn."""


def _clear_of_grid(value: float) -> bool:
    """Whether a coordinate is far enough from the lines between the 3 x 3 areas."""
    return min(abs(value - UNITS / 3), abs(value - UNITS * 2 / 3)) >= _EDGE_MARGIN


def _place(rng: np.random.Generator, w: float, h: float, taken: list[Thing]) -> Point | None:
    for _ in range(200):
        x = float(rng.uniform(w / 2 + 1, UNITS - w / 2 - 1))
        y = float(rng.uniform(h / 2 + 1, UNITS - h / 2 - 1))
        apart = all(
            abs(x - t.x) > (w + t.width) / 2 + _GAP or abs(y - t.y) > (h + t.height) / 2 + _GAP
            for t in taken
        )
        if apart and _clear_of_grid(x) and _clear_of_grid(y):
            return x, y
    return None


def make_scene(
    rng: np.random.Generator, *, shapes: int | None = None, number: bool | None = None
) -> Scene:
    """A random scene of 1 to 4 shapes and, half of the time, a number tile.

    `shapes` and `number` fix the number of shapes and whether there is a tile.
    """
    count = int(rng.integers(1, 5)) if shapes is None else shapes
    with_tile = bool(rng.random() < 0.5) if number is None else number
    pairs = rng.choice(len(COLOURS) * len(SHAPES), size=count, replace=False)
    things: list[Thing] = []
    if with_tile:
        size = float(rng.uniform(14, 16.5))
        width = size * 1.5
        if spot := _place(rng, width, size, things):
            plate = "white" if rng.random() < 0.5 else "black"
            name = f"{int(rng.integers(10, 100))}"
            things.append(
                Thing(name=name, colour=plate, x=spot[0], y=spot[1], width=width, height=size)
            )
    for pair in pairs:
        size = float(rng.uniform(13.5, 20))
        if spot := _place(rng, size, size, things):
            colour, name = list(COLOURS)[pair // len(SHAPES)], SHAPES[pair % len(SHAPES)]
            angle = float(rng.uniform(-0.13, 0.13))
            things.append(
                Thing(
                    name=name,
                    colour=colour,
                    x=spot[0],
                    y=spot[1],
                    width=size,
                    height=size,
                    angle=angle,
                )
            )
    ordered = sorted(things, key=lambda t: (t.is_tile, t.cell, t.x))
    return Scene(things=tuple(ordered), background=int(rng.integers(2**31)))


def thing_mask(thing: Thing, scale: float) -> tuple[Image.Image, tuple[int, int]]:
    """Mask ("L") of the area a thing covers and the pixel its upper left corner goes to."""
    left = round((thing.x - thing.width / 2) * scale)
    top = round((thing.y - thing.height / 2) * scale)
    if thing.is_tile:
        size = (round(thing.width * scale), round(thing.height * scale))
        return Image.new("L", size, 255), (left, top)
    return shape_mask(thing.name, thing.width, scale, thing.angle), (left, top)


def render(scene: Scene, size: int = UNITS) -> Image.Image:
    """Draw a scene as an RGB picture of `size` x `size` pixels."""
    scale = size / UNITS
    image = background(scene.background, size)
    rng = np.random.default_rng(scene.background + 1)
    for thing in scene.things:
        tone = np.clip(np.array(COLOURS[thing.colour]) + rng.uniform(-12, 12, 3), 0, 255)
        mask, corner = thing_mask(thing, scale)
        image.paste(tuple(int(v) for v in tone), corner, mask)
        if thing.is_tile:
            ink = (20, 20, 30) if thing.colour == "white" else (240, 240, 235)
            image.paste(ink, corner, tile_mask(thing.name, thing.width, thing.height, scale))
    return image


def _a(thing: Thing) -> str:
    return f"{'an' if thing.colour[0] in 'aeiou' else 'a'} {thing.colour} {thing.name}"


def _pick(rng: np.random.Generator, *phrasings: str) -> str:
    return phrasings[int(rng.integers(len(phrasings)))]


def _exists(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    """Balanced yes/no; most "no" questions share a colour or a shape with something shown."""
    shown = {(t.colour, t.name) for t in scene.shapes}
    colour, name = sorted(shown)[int(rng.integers(len(shown)))]
    truth = bool(rng.random() < 0.5)
    while not truth and (colour, name) in shown:
        change = rng.random()
        if change < 0.6:
            colour = list(COLOURS)[int(rng.integers(len(COLOURS)))]
        if change > 0.4:
            name = SHAPES[int(rng.integers(len(SHAPES)))]
    asked = _a(Thing(name=name, colour=colour, x=0, y=0, width=0, height=0))
    return _pick(rng, f"Is there {asked}?", f"Do you see {asked}?"), "yes" if truth else "no"


def questions(scene: Scene, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """One (kind, question, answer) of every kind that has a single right answer for the scene."""
    made: list[tuple[str, str, str]] = []
    shapes = scene.shapes
    names, colours = [t.name for t in shapes], [t.colour for t in shapes]
    by_name = [t for t in shapes if names.count(t.name) == 1]
    by_colour = [t for t in shapes if colours.count(t.colour) == 1]
    if by_name:
        thing = by_name[int(rng.integers(len(by_name)))]
        spelling = _pick(rng, "color", "colour")
        made.append(("colour", f"What {spelling} is the {thing.name}?", thing.colour))
    if by_colour:
        thing = by_colour[int(rng.integers(len(by_colour)))]
        asked = _pick(
            rng, f"What shape is {thing.colour}?", f"What is the {thing.colour} shape?"
        )  # fmt: skip
        made.append(("shape", asked, thing.name))
    if shapes:
        thing = shapes[int(rng.integers(len(shapes)))]
        made.append(("where", f"Where is the {thing.colour} {thing.name}?", CELLS[thing.cell]))
        counted = _pick(rng, "How many shapes are there?", "How many shapes do you see?")
        made.append(("count", counted, str(len(shapes))))
        made.append(("exists", *_exists(scene, rng)))
    if scene.number:
        asked = _pick(rng, "What number is shown?", "Which number do you see?")
        made.append(("number", asked, scene.number))
    parts = [f"{_a(t)} at the {CELLS[t.cell]}" for t in shapes]
    if scene.number:
        parts.append(f"the number {scene.number}")
    asked = _pick(rng, "Describe the picture.", "What is in the picture?")
    made.append(("describe", asked, ", ".join(parts)))
    return made


def evaluation_set(count: int = 300, seed: int = 20_000, size: int = UNITS) -> Iterator[Sample]:
    """`count` samples, one question a picture, the kinds of `KINDS` in turn.

    Scenes come from generators keyed (seed, index); training keys are of another form, so that
    no training scene is met here.
    """
    index = 0
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        while True:
            rng = np.random.default_rng([seed, 1, index])
            index += 1
            scene = make_scene(rng, number=True if kind == "number" else None)
            made = {k: (question, answer) for k, question, answer in questions(scene, rng)}
            if kind in made:
                break
        question, answer = made[kind]
        yield Sample(
            image=render(scene, size), kind=kind, question=question, answer=answer, scene=scene
        )


def same_answer(given: str, expected: str) -> bool:
    """Whether two answers agree, spaces and case aside."""
    return "".join(given.lower().split()) == "".join(expected.lower().split())
