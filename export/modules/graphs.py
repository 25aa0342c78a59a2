"""Which graphs a model has under a plan, and the module that each wraps.

The tracer and the PyTorch reference both ask here, so that they run the same modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from ...runtime.bundle.contract import (
    DROP_KIND,
    GUIDE_KIND,
    HIDDEN_STATES,
    HIDDEN_STATES_OUT,
    INPUTS_EMBEDS,
    KEEP,
    KEPT,
    LANGUAGE_KIND,
    LOGITS,
    MERGED,
    PROMPT_EMBEDS,
    QUERIES,
    QUERY,
    RECYCLED,
    SCORES,
    SHRINK_KIND,
    VIDEO_KIND,
    VISION_KIND,
    GraphKind,
    GraphSpec,
    Sizes,
)
from ...runtime.bundle.plan import Drop, Plan, Stage
from ..methods.base import VisionMethod
from ..parts.language import LanguageParts
from ..parts.vision import VisionParts
from ..scores import score_class
from .base import GraphModule
from .drop import DropGraph
from .language import GuideStage, LanguageStage
from .shrink import ShrinkGraph
from .vision import VisionGraph


@dataclass(frozen=True, kw_only=True)
class WrappedGraph:
    """A graph before it is traced."""

    spec: GraphSpec
    module: nn.Module
    """A ``GraphModule``, or one whose arguments are the graph's inputs by name."""
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Values of the rotary tables that it looks up, by name."""
    norms: int | None = None
    rotates: bool = False
    gapless: bool = False
    sections: bool = False
    """As in ``graphs.neutral.NeutralGraph``."""

    def arguments(self, inputs: Mapping[str, object]) -> dict[str, object]:
        """The graph's inputs by name, as the module takes them."""
        of_module = self.module
        return of_module.arguments(inputs) if isinstance(of_module, GraphModule) else dict(inputs)


def vision_graphs(
    image: VisionParts,
    video: VisionParts | None,
    method: VisionMethod | None,
    language: LanguageParts,
    shrinks: bool,
) -> Iterator[WrappedGraph]:
    """The graphs of the vision side.

    Args:
        image: the parts that look at images.
        video: those that look at frames, where they are others.
        method: what selects.
        language: the decoder that reads what they make.
        shrinks: whether tokens of large images are means of others.
    """
    for kind, parts in ((VISION_KIND, image), (VIDEO_KIND, video)):
        if parts is not None:
            yield _vision(kind, parts, method, language)
    if shrinks:
        sizes: Sizes = {"tokens": image.tokens, "row_width": language.row_width(0)}
        yield WrappedGraph(spec=SHRINK_KIND.spec(sizes), module=ShrinkGraph())


def _vision(
    kind: GraphKind, parts: VisionParts, method: VisionMethod | None, language: LanguageParts
) -> WrappedGraph:
    images, tokens = parts.sizes
    whole = parts.tokens + 1 if parts.keeps_cls else tokens
    having: list[str] = []
    if method is not None:
        whole = "rows" if parts.keeps_cls else KEEP
        having = [KEEP, KEPT, SCORES, *([PROMPT_EMBEDS] if method.reads_prompt else [])]
    sizes: Sizes = {
        "images": images,
        "tokens": tokens,
        "rows": whole,
        "width": language.config.hidden_size,
        "row_width": language.row_width(0),
    }
    return WrappedGraph(
        spec=kind.spec(sizes, having, first=parts.inputs), module=VisionGraph(parts, method)
    )


def language_graphs(parts: LanguageParts, plan: Plan) -> Iterator[WrappedGraph]:
    """The graphs of the language side, in the order in which a prompt meets them."""
    if plan.guide is not None:
        yield _guide(parts, plan.stages[0])
        return
    before: dict[str, WrappedGraph] = {}
    for each in plan.decoder_drops:
        score = score_class(each.score)
        if score.before is not None:
            sizes: Sizes = {**parts.sizes, "row_width": parts.row_width(0)}
            before[score.before.name] = WrappedGraph(
                spec=score.before.spec(sizes), module=score.make_before(parts)
            )
    yield from before.values()
    drops = (*plan.decoder_drops, None)
    for number, (stage, drop) in enumerate(zip(plan.stages, drops, strict=True)):
        yield _stage(parts, stage, number, drop, plan.gapless(number))
        if drop is not None:
            yield _drop(parts, drop, number + 1)


def _stage(
    parts: LanguageParts, stage: Stage, number: int, drop: Drop | None, gapless: bool
) -> WrappedGraph:
    read = () if drop is None else score_class(drop.score).inputs
    emits = next((name for name in (QUERY, QUERIES) if name in read), None)
    last = stage.stop == len(parts.layers)
    having = [
        INPUTS_EMBEDS if number == 0 else HIDDEN_STATES,
        LOGITS if last else HIDDEN_STATES_OUT,
        *([] if emits is None else [emits]),
    ]
    module = LanguageStage(parts, stage.first, stage.stop, emits)
    return _of_layers(LANGUAGE_KIND, module, parts, stage, having, number=number, gapless=gapless)


def _guide(parts: LanguageParts, stage: Stage) -> WrappedGraph:
    """All layers, one sequence."""
    module = GuideStage(parts, stage.first, stage.stop)
    return _of_layers(GUIDE_KIND, module, parts, stage, [INPUTS_EMBEDS], gapless=True, batch=1)


def _of_layers(
    kind: GraphKind,
    module: LanguageStage,
    parts: LanguageParts,
    stage: Stage,
    having: list[str],
    *,
    gapless: bool,
    number: int | None = None,
    batch: int | str = "batch",
) -> WrappedGraph:
    return WrappedGraph(
        spec=kind.spec(
            {
                **parts.sizes,
                "batch": batch,
                "row_width": parts.row_width(stage.first),
                "row_width_out": parts.row_width(stage.stop),
            },
            having,
            number=number,
            layers=len(module.layers),
            cache_type=parts.cache_type,
        ),
        module=module,
        tables=parts.rotary_tables(),
        norms=2 * len(module.layers) + (module.norm is not None),
        rotates=True,
        gapless=gapless,
        sections=bool(parts.sections),
    )


def _drop(parts: LanguageParts, drop: Drop, number: int) -> WrappedGraph:
    module = DropGraph(parts, drop)
    recycles = drop.recycle is not None
    having = [*((RECYCLED, MERGED) if recycles else ()), *module.score.inputs]
    sizes: Sizes = {
        **parts.sizes,
        "row_width": parts.row_width(drop.layer),
        **({"groups": 1} if recycles else {}),
    }
    looks_up = any("rotary" in name for name, _ in module.named_buffers())
    return WrappedGraph(
        spec=DROP_KIND.spec(sizes, having, number=number, cache_type=parts.cache_type),
        module=module,
        tables=parts.rotary_tables() if looks_up else {},
        rotates=module.score.rotates,
        sections=bool(parts.sections),
    )
