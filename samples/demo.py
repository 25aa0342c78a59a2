"""Draws `images/scene.png`, the picture of the examples: `python -m vtp.samples.demo OUT.png`."""

from __future__ import annotations

import sys
from pathlib import Path

from .scenes import Scene, Thing, render

SIDE = 512

DEMO_SCENE = Scene(
    things=(
        Thing(name="star", colour="red", x=24, y=22, width=19, height=19, angle=0.05),
        Thing(name="circle", colour="blue", x=66, y=67, width=17, height=17),
        Thing(name="heart", colour="purple", x=104, y=58, width=18, height=18),
        Thing(name="ring", colour="yellow", x=29, y=105, width=18, height=18),
        Thing(name="47", colour="white", x=103, y=108, width=24, height=16),
    ),
    background=12,
)
"""Four shapes and the number 47."""


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    (out,) = sys.argv[1:] if arguments is None else arguments
    render(DEMO_SCENE, SIDE).save(Path(out), optimize=True)


if __name__ == "__main__":
    main()
