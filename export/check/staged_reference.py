"""PyTorch's answers with tokens dropped by the plan: the truth for pruned cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...runtime.bundle.keep import Keep
from ...runtime.bundle.manifest import LanguageRecord
from ...runtime.bundle.plan import Plan
from ...runtime.chat.guide import read_prompt
from ...runtime.engines.base import Graph
from ...runtime.model.decoder import Decoder
from ...runtime.model.model_input import model_input
from ...runtime.model.splice import splice
from ...runtime.model.vision import Vision
from ...runtime.verify.verify import stand_in_scores
from ..families.base import Family
from ..modules.drop import DropGraph
from ..modules.language import GuideStage, LanguageStage
from ..modules.shrink import ShrinkGraph
from ..modules.vision import VisionGraph
from ..ops.attention import use_traced_attention
from ..parts.language import LanguageParts
from ..parts.vision import VisionParts
from ..plan.recipe import Recipe
from ..plan.sample import STEPS, Sample
from ..scores import score_class
from ..scores.raters import RaterChoice
from .eager import EagerTarget
from .eager_engine import EagerEngine, EagerGraph
from .reference import Reference

_STAGE = ("position_ids", "write_index")


class StagedReference:
    """Runs the model cut as the plan says, in plain PyTorch.

    Args:
        family: of the model.
        model: the transformers model with its weights; its attention is replaced (see
            ``use_traced_attention``).
        recipe: the methods.
        plan: the plan.
        language: sizes of the decoder.
        table: token embeddings ``(vocab, width)``; None takes the model's.
    """

    def __init__(
        self,
        family: Family,
        model: Any,
        recipe: Recipe,
        plan: Plan,
        language: LanguageRecord,
        table: np.ndarray | None = None,
    ) -> None:
        use_traced_attention(model)
        self._plan = plan
        engine, target = EagerEngine(), EagerTarget()
        parts, decoder = family.vision(model), family.language(model)
        looking = {"image": _looking(parts, recipe, target)}
        of_video = family.video(model)
        if of_video is not None:
            looking["video"] = _looking(of_video, recipe, target)
        shrinking = EagerGraph(ShrinkGraph(), ("image_embeds", "index", "weight"), ("shrunken",))
        self.vision = Vision(engine, plan, language.width, {**looking, "shrink": shrinking})
        if table is None:
            table = model.get_input_embeddings().weight.detach().numpy()
        graphs = _graphs(plan, decoder, target)
        separator = family.separator(model)
        row = None if separator is None else separator.detach().numpy()
        self.decoder = Decoder(engine, plan, language, table, graphs, separator=row)
        self.engine = engine

    @torch.no_grad()
    def run(self, sample: Sample, keep: tuple[Keep, ...], steps: int = STEPS) -> Reference:
        """Greedy answer of ``steps`` tokens with these keeps."""
        plan, placeholders = self._plan, sample.placeholders
        inputs = model_input(plan, sample.prompt, placeholders, sample.media, plan.keeps(keep))
        texts = [token for token in sample.prompt if token not in placeholders]
        embeds = self.decoder.embed(np.array(texts))
        output = self.vision(inputs.media, inputs.tile_counts, embeds)
        prompt = splice(self.decoder, sample.prompt, placeholders, output.rows, output.arranged())
        cache = self.decoder.cache(prompt.placement.tokens + steps)
        scores = {"guide": [stand_in_scores(size) for size in inputs.extent.sizes]}
        if output.scores is not None:
            scores["vision"] = output.image_scores()
        counts = inputs.counts_after_vision(len(prompt.placement.image_rows))
        read = self.decoder.prefill(prompt, cache, plan.in_decoder(counts), scores)
        known = self.decoder.known_tokens
        rows, tokens = [read.logits.copy()], [int(read.logits.argmax()) % known]
        loop = self.decoder.decode(cache)
        while len(tokens) < steps:
            rows.append(loop.step(tokens[-1]).copy())
            # Hidden states stand in for logits where only the first layers run: any token will do.
            tokens.append(int(rows[-1].argmax()) % known)
        received = None
        if plan.guide is not None:
            apart = self.decoder.cache(prompt.placement.tokens).stages[0]
            include = plan.guide.include_last_visual_row
            received = read_prompt(self.decoder, prompt, apart, include)[1]
        return Reference(
            keep=keep,
            scores=None if output.scores is None else np.stack(output.scores),
            kept=np.stack(output.kept),
            image_embeds=np.concatenate([part.read() for part in output.embeds]),
            read=prompt.embeds.read()[0, prompt.placement.image_rows].copy(),
            logits=np.stack(rows),
            tokens=tuple(tokens),
            received=received,
            frames=sample.frames,
            drops=tuple((d.scores, d.after.entries) for d in read.drops),
        )


def _looking(parts: VisionParts, recipe: Recipe, target: EagerTarget) -> EagerGraph:
    """A vision graph, as a module."""
    takes: tuple[str, ...] = tuple(parts.ends())
    if recipe.vision is not None:
        takes += ("keep", "prompt_embeds") if recipe.vision.reads_prompt else ("keep",)
    module = VisionGraph(parts, recipe.vision, target)
    return EagerGraph(module, takes, ("image_embeds", "kept", "scores"))


def _graphs(plan: Plan, parts: LanguageParts, target: EagerTarget) -> dict[str, Graph]:
    """The language side's graphs, as modules."""
    graphs: dict[str, Graph] = {}
    drops = (*plan.decoder_drops, None)
    for number, (stage, drop) in enumerate(zip(plan.stages, drops, strict=True)):
        last = stage.stop == len(parts.layers)
        states = "inputs_embeds" if number == 0 else "hidden_states"
        outputs: tuple[str, ...] = ("logits" if last else "hidden_states_out",)
        if plan.guide is not None:
            module: LanguageStage = GuideStage(parts, stage.first, stage.stop, target)
            inputs = (states, *_STAGE, "score_rows", "image_columns", "logit_rows")
            graphs["language.0"] = EagerGraph(module, inputs, (*outputs, "received"), stage.layers)
            continue
        emits = emitted(drop.score if drop else None)
        module = LanguageStage(parts, stage.first, stage.stop, target, emits)
        outputs += (emits,) if emits else ()
        graphs[f"language.{number}"] = EagerGraph(module, (states, *_STAGE), outputs, stage.layers)
        if drop is not None:
            score = score_class(drop.score).inputs
            takes: tuple[str, ...] = ("hidden_states", "image_rows", "text_rows", "keep")
            takes += ("recycled", "merged") if drop.recycle is not None else ()
            graphs[f"drop.{number + 1}"] = EagerGraph(
                DropGraph(parts, drop),
                (*takes, *score),
                ("hidden_states_out", "kept", "scores"),
            )
            if "rater_weights" in score:
                graphs["raters"] = EagerGraph(
                    RaterChoice(), ("inputs_embeds", "image_rows", "rater_rows"), ("rater_weights",)
                )
    return graphs


def emitted(score: str | None) -> str | None:
    """What the stage before a drop has to put out for the drop's score."""
    inputs = score_class(score).inputs if score is not None else ()
    return next((name for name in ("query", "queries") if name in inputs), None)
