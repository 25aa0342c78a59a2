"""The bundle that a schedule is searched on: given, or exported with a drop at every place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import BundleError, NotCalibratable
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.manifest import FILE_NAME
from .progress import Progress

MOST_PLACES = 8
"""Drops of an exported bundle, where layers are not named: every drop is a graph of its own."""


def is_bundle(path: Path) -> bool:
    """Whether a path holds a bundle, rather than a model."""
    return (path / FILE_NAME).is_file()


def spread(layers: int) -> tuple[int, ...]:
    """Layers to consider: every one but the first, or ``MOST_PLACES`` of them, evenly spread."""
    if layers - 1 <= MOST_PLACES:
        return tuple(range(1, layers))
    return tuple(round(1 + i * (layers - 1) / MOST_PLACES) for i in range(MOST_PLACES))


def export_for_search(
    model: str,
    folder: Path,
    method: str | None,
    layers: Sequence[int],
    score: str,
    progress: Progress,
) -> Path:
    """Export a model with drops that drop nothing yet; what was so exported before is used again.

    Args:
        model: preset, folder or hub id.
        folder: where the bundle goes.
        method: of the vision side, whose drop is searched too; None for none.
        layers: places in the decoder; none given takes ``spread``.
        score: what ranks at them.
        progress: told.

    Raises:
        NotCalibratable: the folder holds another bundle.
        ModelError, ExportError: see ``vtp.errors``.
    """
    from ..export import ExportOptions, export_model
    from ..export import Progress as ExportProgress
    from ..export.plan.model_folder import ModelFolder
    from ..export.source.find import find_model

    class StepProgress(ExportProgress):
        def step(self, text: str) -> None:
            progress.step(text)

        def note(self, text: str) -> None:
            progress.step(f"note: {text}")

    source = find_model(model, None)
    depth = ModelFolder(source.folder, None).config.get_text_config().num_hidden_layers
    places = tuple(layers) or spread(depth)
    if is_bundle(folder):
        _check_same(folder, source.id, method, places, score)
        return folder
    options = ExportOptions(
        method=f"{method}+schedule" if method else None,
        stages=tuple(f"{layer}:1.0:{score}" for layer in places),
        keep=(1.0,) * (len(places) + (method is not None)),
    )
    export_model(model, folder, options, StepProgress())
    return folder


def _check_same(
    folder: Path, model: str, method: str | None, places: Sequence[int], score: str
) -> None:
    problem = "it was exported for another search; delete it, or choose another --out"
    try:
        manifest = Bundle(folder).manifest
    except BundleError as error:
        raise NotCalibratable(folder, problem) from error
    found = [(drop.layer, drop.score) for drop in manifest.plan.decoder_drops]
    name = f"{method}+schedule" if method else "schedule"
    wanted = (model, name, [(layer, score) for layer in places])
    if (manifest.model.id, manifest.plan.name, found) != wanted:
        raise NotCalibratable(folder, problem)
