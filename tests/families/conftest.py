"""Small models of every family: the real architecture, random weights."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import vtp
from vtp.export import ExportOptions, export_model
from vtp.samples.hub.table import REPOSITORIES
from vtp.samples.make_checkpoint import HUB, make_checkpoint

from .tiny import make

torch.set_num_threads(1)

TARGETS = ("ort", "onnx", "trt10")


@pytest.fixture(scope="session")
def model_folder(made_once: Any) -> Callable[[str], Path]:
    """The folder of a small model: by its name in ``tiny.MODELS`` in the layout of transformers, by
    that of a repository in the layout of the hub."""

    def get(name: str) -> Path:
        label = f"family-{name}".replace("/", "-")
        if name not in REPOSITORIES:
            return made_once(label, lambda folder: make(name, folder))
        of = REPOSITORIES[name]

        def write(folder: Path) -> None:
            # Weights so wide that greedy choices do not hang on rounding.
            make_checkpoint(of.family, of.size, folder, layout=HUB, small=True, spread=0.2)

        return made_once(label, write)

    return get


@pytest.fixture(scope="session")
def bundle_of(made_once: Any, model_folder: Callable[[str], Path]) -> Callable[..., Path]:
    """The bundle of a small model and a method (None: the default), in all targets."""

    def get(
        name: str,
        method: str | None = "fastervlm",
        targets: tuple[str, ...] = TARGETS,
        **options: Any,
    ) -> Path:
        asked = zlib.crc32(str((targets, sorted(options.items()))).encode())
        label = f"family-{name}-{method}-{asked}"

        def export(out: Path) -> None:
            export_model(
                str(model_folder(name)),
                out,
                ExportOptions(method=method, targets=targets, **options),
            )

        return made_once(re.sub(r"\W", "-", label), export)

    return get


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise on a slope: every patch differs from its neighbours."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0, 160, width)[None, :, None] + np.linspace(0, 60, height)[:, None, None]
    noise = random.integers(0, 90, (height, width, 3))
    return Image.fromarray((slope + noise).clip(0, 255).astype(np.uint8))


class Loaded(NamedTuple):
    """A small model in transformers, and its bundle in every target."""

    folder: Path
    pipelines: dict[str, Any]
    bundle: Path


def load_all(bundle: Path, targets: tuple[str, ...] = TARGETS) -> dict[str, Any]:
    """The bundle on the CPU, by target."""
    return {target: vtp.load(bundle, target=target) for target in targets}
