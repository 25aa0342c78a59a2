"""A model on fake tensors, cut into its parts, and the plan for it: what its configuration and the
options say, before any weight is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from ...errors import OptionInvalid
from ...runtime.bundle.keep import Keep, Keeps
from ...runtime.bundle.manifest import WeightsRecord
from ...runtime.bundle.plan import Plan
from ..families.base import Family
from ..ops.attention import use_traced_attention
from ..parts.language import LanguageParts
from ..parts.vision import VisionParts
from ..weights.block_rounding import check_shape
from .checkpoint_check import needed_tensors
from .model_folder import ModelFolder
from .recipe import Recipe
from .sample import PROMPT, STEPS, sample_image
from .typed_model import make_model

_MOST_CONTEXT = 2**22
"""Positions; their table alone is then a gigabyte."""


@dataclass(frozen=True, kw_only=True)
class CutModel:
    """A model's parts, and what is to be done with them."""

    family: Family
    model: Any
    """The transformers model, its tensors fake."""
    vision: VisionParts
    video: VisionParts | None
    """The parts that look at frames, where they are others."""
    language: LanguageParts
    recipe: Recipe
    """The methods, fitted to the tower."""
    plan: Plan

    @property
    def parts(self) -> tuple[VisionParts | LanguageParts, ...]:
        """Both sides."""
        every = (self.vision, self.video, self.language)
        return tuple(part for part in every if part is not None)

    @property
    def parameters(self) -> int:
        """Weights of what is exported."""
        tensors = needed_tensors(self.family, self.model, *self.parts)
        return sum({id(tensor): tensor.numel() for tensor in tensors}.values())

    def check_blocks(self, how: WeightsRecord) -> None:
        """Refuse matrices of the decoder that do not split into blocks.

        Raises:
            NotQuantizable: naming the first.
        """
        names = {
            id(tensor): self.family.canonical_name(key)
            for key, tensor in self.model.named_parameters(remove_duplicate=False)
        }
        for part in (self.language.layers, self.language.head):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    outputs, inputs = module.weight.shape
                    check_shape(names[id(module.weight)], outputs, inputs, how)


def cut_model(
    opened: ModelFolder,
    recipe: Recipe,
    *,
    dtype: str,
    keep: Keeps | None,
    average: Keep | None,
    context: int | None,
) -> CutModel:
    """Make the model, take it apart and plan; to be called in a fake tensor mode.

    Args:
        opened: what the model's folder says.
        recipe: the methods.
        dtype: type of the weights.
        keep: default keeps, one for each drop; None takes the methods' own.
        average: default keeps from a mean over the layers, instead of ``keep``.
        context: positions that the graphs will know; None takes the model's.

    Raises:
        VtpError: whatever in the model or the options does not go.
    """
    family = opened.family
    model = make_model(family, opened.config, dtype)
    use_traced_attention(model)
    vision, language = family.vision(model), family.language(model)
    video = family.video(model) if opened.prompt.video else None
    if vision.free_size:
        vision = replace(vision, grid=opened.preprocessing(sample_image()).grid)
    if context is not None:
        if not 1 <= context <= _MOST_CONTEXT:
            raise OptionInvalid("context", context, f"a number of positions in 1..{_MOST_CONTEXT}")
        language = replace(language, context=context)
    needed = opened.length(PROMPT, sample_image()) + STEPS
    if language.context < needed:
        raise OptionInvalid(
            "context",
            language.context,
            f"at least {needed}, the number of tokens of the sample that checks the export",
        )
    language.rotary_tables()  # refuses positions whose angles cannot be tabulated
    recipe = recipe.for_tower(vision.has_cls)
    if video is not None and recipe.vision is not None:
        recipe.vision.check(video)
    plan = recipe.plan(vision, len(language.layers), keep, average, language.positions)
    return CutModel(
        family=family,
        model=model,
        vision=vision,
        video=video,
        language=language,
        recipe=recipe,
        plan=plan,
    )
