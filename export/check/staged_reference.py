"""PyTorch's answers with tokens dropped by the plan: the truth for pruned cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...runtime.bundle.keep import Keep
from ...runtime.bundle.manifest import LanguageRecord
from ...runtime.bundle.plan import Plan
from ...runtime.chat.guide import read_prompt
from ...runtime.model.decoder import Decoder
from ...runtime.model.model_input import model_input
from ...runtime.model.splice import splice
from ...runtime.model.vision import Vision
from ...runtime.verify.verify import stand_in_scores
from ..families.base import Family
from ..modules.graphs import language_graphs, vision_graphs
from ..ops.attention import use_traced_attention
from ..plan.recipe import Recipe
from ..plan.sample import STEPS, Sample
from .eager_engine import EagerEngine, EagerGraph
from .reference import Reference


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
        engine = EagerEngine()
        parts, decoder = family.vision(model), family.language(model)
        video = family.video(model)
        graphs = {
            graph.spec.name: EagerGraph(graph)
            for graph in (
                *vision_graphs(parts, video, recipe.vision, decoder, shrinks=True),
                *language_graphs(decoder, plan),
            )
        }
        self.vision = Vision(engine, plan, language.row_width(0), graphs)
        if table is None:
            table = model.get_input_embeddings().weight.detach().numpy()
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
