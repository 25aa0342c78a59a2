"""Training scenes drawn once into flat arrays in the work folder, by two processes."""

from __future__ import annotations

import multiprocessing
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs import SampleConfig
from ..scenes import UNITS, Scene, make_scene, render
from .labels import FIELDS, patch_labels

_CHUNK = 500
_SHAPE_COUNTS = (0.15, 0.2, 0.25, 0.4)
_TILE_SHARE = 0.6


@dataclass(frozen=True)
class TrainingScenes:
    """Arrays over all training scenes, mapped from disk."""

    images: np.ndarray
    """(scenes, side, side, 3) uint8."""
    planes: np.ndarray
    """(scenes, fields, patches) uint8, in the order of `labels.FIELDS`."""
    wanted: np.ndarray
    """(scenes, patches) float16: the wanted [CLS] attention."""


def training_scene(config: SampleConfig, index: int) -> Scene:
    """Training scene `index`; richer than `make_scene` draws by itself."""
    rng = np.random.default_rng([config.seed, 0, 0, index])
    shapes = 1 + int(rng.choice(4, p=_SHAPE_COUNTS))
    return make_scene(rng, shapes=shapes, number=bool(rng.random() < _TILE_SHARE))


def _chunk(job: tuple[SampleConfig, int]) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    config, start = job
    stop = min(start + _CHUNK, config.scenes)
    images, planes, wanted = [], [], []
    for index in range(start, stop):
        scene = training_scene(config, index)
        images.append(np.asarray(render(scene, config.image_size)))
        labels, target = patch_labels(scene, config.grid)
        planes.append(np.stack([labels[name] for name in FIELDS]))
        wanted.append(target.astype(np.float16))
    return start, np.stack(images), np.stack(planes), np.stack(wanted)


def training_scenes(config: SampleConfig, work: Path) -> TrainingScenes:
    """Map the training arrays, drawing them first if the work folder lacks them."""
    if config.image_size != UNITS:
        raise ValueError(f"scenes are laid out for {UNITS} pixels, not {config.image_size}")
    n, side, done = config.scenes, config.image_size, work / "scenes.done"
    shapes: dict[str, tuple[tuple[int, ...], type]] = {
        "images": ((n, side, side, 3), np.uint8),
        "planes": ((n, len(FIELDS), config.image_tokens), np.uint8),
        "wanted": ((n, config.image_tokens), np.float16),
    }
    if not done.exists():
        arrays = {
            name: np.lib.format.open_memmap(work / f"{name}.npy", "w+", dtype, shape)
            for name, (shape, dtype) in shapes.items()
        }
        jobs = [(config, start) for start in range(0, n, _CHUNK)]
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            for start, *parts in pool.imap_unordered(_chunk, jobs):
                for array, part in zip(arrays.values(), parts, strict=True):
                    array[start : start + len(part)] = part
                if start % (_CHUNK * 20) == 0:
                    print(f"drawn: scenes near {start} of {n}", file=sys.stderr, flush=True)
        for array in arrays.values():
            array.flush()
        done.touch()
    return TrainingScenes(**{name: np.load(work / f"{name}.npy", mmap_mode="r") for name in shapes})
