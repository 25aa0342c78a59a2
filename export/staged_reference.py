"""PyTorch's answers with tokens dropped by the plan: the truth for pruned cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..runtime.decoder import Decoder
from ..runtime.engines.base import Graph
from ..runtime.guide import read_prompt
from ..runtime.keep import Keep
from ..runtime.manifest import LanguageRecord
from ..runtime.plan import Plan
from ..runtime.splice import splice
from ..runtime.verify import stand_in_scores
from ..runtime.vision import Vision
from .attention import use_traced_attention
from .drop import DropGraph
from .eager import EagerTarget
from .eager_engine import EagerEngine, EagerGraph
from .families.base import Family, LanguageParts
from .language import GuideStage, LanguageStage
from .recipe import Recipe
from .reference import STEPS, Reference, Sample
from .scores import score_class
from .scores.raters import RaterChoice
from .vision import VisionGraph

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
        vision = VisionGraph(parts, recipe.vision, target)
        takes: tuple[str, ...] = ("pixel_values",)
        if recipe.vision is not None:
            takes += ("keep", "prompt_embeds") if recipe.vision.reads_prompt else ("keep",)
        looking = EagerGraph(vision, takes, ("image_embeds", "kept", "scores"))
        self.vision = Vision(engine, plan, language.width, looking)
        if table is None:
            table = model.get_input_embeddings().weight.detach().numpy()
        graphs = _graphs(plan, decoder, target)
        self.decoder = Decoder(engine, plan, language, table, graphs)
        self.engine = engine

    @torch.no_grad()
    def run(self, sample: Sample, keep: tuple[Keep, ...], steps: int = STEPS) -> Reference:
        """Greedy answer of ``steps`` tokens with these keeps."""
        plan = self._plan
        counts = plan.counts(keep, 1)
        count = plan.after_vision(counts, 1)
        prompt_ids = np.array([token for token in sample.prompt if token != sample.image_token])
        embeds = self.decoder.embed(prompt_ids)
        seen = self.vision(sample.pixel_values, count, embeds)
        prompt = splice(
            self.decoder, list(sample.prompt), sample.image_token, seen.embeds, seen.kept
        )
        cache = self.decoder.cache(prompt.layout.tokens + steps)
        given = {"guide": stand_in_scores(plan.tokens)}
        if seen.scores is not None:
            given["vision"] = seen.scores
        read = self.decoder.prefill(prompt, cache, plan.in_decoder(counts), given)
        rows, tokens = [read.logits.copy()], [int(read.logits.argmax())]
        loop = self.decoder.decode(cache)
        while len(tokens) < steps:
            rows.append(loop.step(tokens[-1]).copy())
            tokens.append(int(rows[-1].argmax()))
        received = None
        if plan.guide is not None:
            apart = self.decoder.cache(prompt.layout.tokens).stages[0]
            include = plan.guide.include_last_visual_row
            received = read_prompt(self.decoder, prompt, apart, include)[1]
        return Reference(
            keep=keep,
            scores=seen.scores,
            kept=seen.kept,
            image_embeds=seen.embeds.read(),
            logits=np.stack(rows),
            tokens=tuple(tokens),
            received=received,
            drops=tuple((d.scores, d.left.patches) for d in read.drops),
        )


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
