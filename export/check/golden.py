"""The golden sample: a picture, a question, and what PyTorch answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from ...runtime.bundle.contract import LANGUAGE
from ...runtime.bundle.keep import Keep
from ...runtime.bundle.manifest import Deviation, Golden, GoldenCase, LanguageRecord
from ...runtime.bundle.plan import Plan
from ...runtime.model.tokenizer import Text
from ...runtime.verify.checked_layers import few_layers
from ...runtime.verify.verify import compare, golden_media, golden_turn
from ..plan.model_folder import ModelFolder
from ..plan.recipe import Recipe
from ..plan.sample import PROMPT, STEPS, VIDEO_FRAMES, Sample, sample_image
from ..source.checkpoint import Checkpoint
from ..weights.weight_file import WeightFile
from .reference import (
    Reference,
    check_unpruned,
    golden_tensors,
    load_torch_model,
    plain_reference,
    use_weights,
)
from .staged_reference import StagedReference
from .streamed_model import embedding_table, first_layers

IMAGE, TENSORS = "golden.png", "golden.safetensors"
TOLERANCES = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest accepted difference from PyTorch in float32, relative to the largest magnitude of a
tensor, by the type of the weights."""
_FEW_STEPS = 4
"""Tokens fed where every one of them reads the layers' weights from disk."""


def make_golden(
    opened: ModelFolder,
    checkpoint: Checkpoint,
    recipe: Recipe,
    plan: Plan,
    language: LanguageRecord,
    layers: int | None,
    quantized: WeightFile | None,
    folder: Path,
    progress: Callable[[int, int], None],
) -> Golden:
    """Run PyTorch, and write picture and tensors into the bundle.

    Args:
        opened: the model.
        checkpoint: its weights.
        recipe: the methods.
        plan: the plan.
        language: sizes of the decoder.
        layers: layers of the decoder that are run; None for the whole model.
        quantized: rounds weights as the graphs have them, where they are of few bits.
        folder: the bundle, which holds the tokenizer.
        progress: told how many of how many cases are done.

    Raises:
        ParityFailed: cut into pieces, the model computes something else.
    """
    image, layout = sample_image(), opened.prompt
    image.save(folder / IMAGE)
    text = Text(folder / "tokenizer.json")
    samples = []
    for frames in (0,) if layout.video is None else (0, VIDEO_FRAMES):
        media = golden_media(opened, image, frames)
        tokens = text.encode(golden_turn(layout, PROMPT, media))
        size = image.size[::-1]
        samples.append(Sample(list(media.placed), size, tokens, layout.placeholders, frames))
    keeps: list[tuple[Keep, ...]] = [(1.0,) * len(plan.drops)]
    if plan.keeps(None) != keeps[0]:
        keeps.append(plan.keeps(None))
    family, steps, table, few = opened.family, STEPS, None, plan
    exact = replace(language, dtype="float32")
    if layers is None:
        model = load_torch_model(opened.config, opened.folder)
    else:
        model, steps = first_layers(family, opened.config, checkpoint, layers), _FEW_STEPS
        table = embedding_table(family, checkpoint)
        few, exact = few_layers(plan, layers), exact.first_layers(layers)
    plain = [plain_reference(family, model, sample, steps) for sample in samples]
    wanted = [(sample, keep) for sample in samples for keep in keeps]

    def run(model: Any) -> list[Reference]:
        staged = StagedReference(family, model, recipe, few, exact, table)
        found = []
        for done, (sample, keep) in enumerate(wanted):
            progress(done, len(wanted))
            case = staged.run(sample, keep[: len(few.drops)], steps)
            found.append(replace(case, keep=keep))
        return found

    cases, rounding = run(model), []
    for truth, case in zip(plain, cases[:: len(keeps)], strict=True):
        check_unpruned(case, truth, TOLERANCES["float32"])
    if quantized is not None:
        sources, change = quantized.quantized_sources(), quantized.rounded
        if layers is None:
            use_weights(model, sources, family.canonical_name, change)
        else:
            given = dict.fromkeys(sources, change)
            model = first_layers(family, opened.config, checkpoint, layers, given)
        exactly, cases = cases, run(model)
        pairs = zip(exactly, cases, strict=True)
        rounding = [_rounding(a.logits, b.logits, a.keep) for a, b in pairs]
    if language.dtype == "bfloat16" and layers is None:
        narrow = load_torch_model(opened.config, opened.folder, torch.bfloat16)
        for sample, truth in zip(samples, plain, strict=True):
            logits = plain_reference(family, narrow, sample, steps).logits
            rounding.append(_rounding(truth.logits, logits, keeps[0]))
    tensors = folder / TENSORS
    save_file(dict(golden_tensors(cases)), tensors)
    tensors.chmod(0o644)  # as every other file; the library writes for the owner alone
    return Golden(
        image=IMAGE,
        prompt=PROMPT,
        tensors=TENSORS,
        tolerance=TOLERANCES[language.dtype],
        cases=tuple(
            GoldenCase(keep=case.keep, tokens=case.tokens, frames=case.frames) for case in cases
        ),
        measured=(),
        rounding=tuple(rounding),
        layers=layers,
    )


def _rounding(want: np.ndarray, got: np.ndarray, keep: tuple[Keep, ...]) -> Deviation:
    """How far the first logits of a case moved when the weights were rounded."""
    return compare(LANGUAGE, "pytorch", keep, "logits[0]", want[0], got[0])
