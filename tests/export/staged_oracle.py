"""The in-decoder methods written from their papers' published code, with Hugging Face classes
alone.

An oracle reads the whole conversation anew for every token it answers, on eager attention and
without a cache. Hooks in front of the decoder layers drop tokens: they only mask the columns of
what is dropped, which the rows that stay cannot tell from its absence. SparseVLM's recycling makes
new tokens, so there the hooks really replace the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

Keep = int | float
_NEVER = torch.finfo(torch.float32).min


@dataclass(frozen=True, kw_only=True)
class OracleDrop:
    """One place where image tokens are dropped."""

    layer: int
    """First layer that sees the kept ones only."""
    score: str
    """``last-row``, ``next-layer``, ``raters``, ``raters-v2``, or the name of given scores."""
    floor: bool = False
    """Whether a ratio is rounded down instead of half to even."""
    together: bool = True
    """Whether the images compete with each other."""
    recycle: bool = False
    """Whether the best of the dropped are merged into a few tokens."""

    def count(self, keep: Keep, tokens: int, images: int) -> int:
        """How many are kept of all images, or of each where they do not compete."""
        if isinstance(keep, int):
            return keep * images if self.together else keep
        product = keep * (tokens * images if self.together else tokens)
        return max(1, int(product) if self.floor else round(product))


@dataclass(frozen=True)
class OracleStage:
    """What the layers between two drops read of the prompt."""

    tokens: int
    """All rows."""
    image_tokens: int
    """Image tokens among them, merged ones included."""
    kept: list[list[int]]
    """For each image the patches that are left."""
    scores: np.ndarray | None
    """``(groups, candidates)`` that the drop in front was decided by; None where it kept all."""


@dataclass(frozen=True)
class OracleAnswer:
    """A greedy answer."""

    tokens: list[int]
    stages: list[OracleStage]
    """In order; the first is what stands in front of all drops in the decoder."""


@dataclass
class Rows:
    """A sequence of embeddings, and what its rows stand for."""

    embeds: torch.Tensor
    """``(rows, width)``."""
    image: torch.Tensor
    """``(rows,)``: image that a row belongs to, -1 for text, -2 for a merged token."""
    patch: torch.Tensor
    """``(rows,)``: patch of that image, -1 for all else."""
    turn: torch.Tensor
    """``(rows,)``: turn of the conversation that reads a row, -1 for an answer in between."""
    given: dict[str, np.ndarray]
    """``(images, patches)`` scores from elsewhere, by name."""


class Oracle:
    """A LLaVA folder opened with transformers alone."""

    def __init__(self, folder: Path) -> None:
        self.model = LlavaForConditionalGeneration.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.ends = self.model.generation_config.eos_token_id

    def prompt(self, question: str, images: int) -> list[int]:
        """Token ids, one image token for each image."""
        content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return self.ids(text)

    def ids(self, text: str, **options: Any) -> list[int]:
        """Token ids of a text."""
        ids: list[int] = self.processor.tokenizer(text, **options)["input_ids"]
        return ids

    @torch.no_grad()
    def read(
        self, ids: Sequence[int], pictures: Sequence[Image.Image], keep: int | None = None
    ) -> Rows:
        """Embeddings of a prompt, of each image those that FasterVLM keeps; None keeps all."""
        config, inner = self.model.config, self.model.model
        scores = projected = torch.empty(0, 0)
        if pictures:
            images = self.processor.image_processor(list(pictures), return_tensors="pt")
            tower = inner.vision_tower(
                images["pixel_values"], output_hidden_states=True, output_attentions=True
            )
            assert config.vision_feature_layer == -2
            scores = tower.attentions[-2][:, :, 0, 1:].mean(dim=1)
            projected = inner.multi_modal_projector(tower.hidden_states[-2][:, 1:])
        count = projected.shape[1] if keep is None else keep
        embeds, image, patch, seen = [], [], [], 0
        for token in ids:
            if token == config.image_token_id:
                kept = best(scores[seen], count)
                embeds.append(projected[seen][kept])
                image += [seen] * len(kept)
                patch += kept
                seen += 1
            else:
                embeds.append(self.model.get_input_embeddings()(torch.tensor([token])))
                image.append(-1)
                patch.append(-1)
        return Rows(
            torch.cat(embeds),
            torch.tensor(image),
            torch.tensor(patch),
            torch.zeros(len(image), dtype=torch.long),
            {"vision": scores.numpy()},
        )

    def follow(
        self, rows: Rows, said: Sequence[int], ids: Sequence[int], pictures: Sequence[Image.Image]
    ) -> Rows:
        """``rows``, the answer ``said`` to it, and a next turn, which reads the answer's end."""
        spoken, turn = self.read(said[:-1], ()), self.read([*said[-1:], *ids], pictures)
        images = len(rows.given["vision"])
        scores = [part for part in (rows.given["vision"], turn.given["vision"]) if len(part)]
        return Rows(
            torch.cat([rows.embeds, spoken.embeds, turn.embeds]),
            torch.cat(
                [rows.image, spoken.image, torch.where(turn.image < 0, -1, turn.image + images)]
            ),
            torch.cat([rows.patch, spoken.patch, turn.patch]),
            torch.cat([rows.turn, spoken.turn - 1, turn.turn + int(rows.turn.max()) + 1]),
            {"vision": np.concatenate(scores)},
        )

    def answer(
        self,
        rows: Rows,
        drops: Sequence[OracleDrop],
        keeps: Sequence[Keep],
        positions: str,
        *,
        steps: int,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> OracleAnswer:
        """Greedy answer.

        Args:
            rows: all turns; the last row of each decides what is dropped of its images.
            drops: where.
            keeps: one for each.
            positions: ``original`` or ``compact`` keep the numbers that the rows have, counted from
                0; ``compact-per-stage`` counts anew behind every drop.
            steps: longest answer.
            given: scores from elsewhere, by name.
        """
        rows = replace(rows, given={**rows.given, **(given or {})})
        stays = {drop.layer: (drop, keep) for drop, keep in zip(drops, keeps, strict=True)}
        answer: list[int] = []
        while True:
            reading = _Reading(self.model, rows, stays, positions == "compact-per-stage")
            answer.append(reading.next_token(answer))
            if len(answer) == steps or answer[-1] == self.ends:
                return OracleAnswer(answer, reading.stages)


class _Reading:
    """One pass of the decoder over prompt and answer, with its drops."""

    def __init__(
        self,
        model: Any,
        rows: Rows,
        drops: Mapping[int, tuple[OracleDrop, Keep]],
        renumber: bool,
    ) -> None:
        self.model = model
        self.decoder = model.model.language_model
        self.drops = drops
        self.renumber = renumber
        self.given = rows.given
        self.prompt = rows.embeds
        self.image, self.patch, self.turn = rows.image, rows.patch, rows.turn
        self.turns = int(rows.turn.max()) + 1
        self.images = [
            sorted(set(rows.image[(rows.image >= 0) & (rows.turn == turn)].tolist()))
            for turn in range(self.turns)
        ]
        self.patches = rows.given["vision"].shape[1]
        self.raters: dict[int, torch.Tensor] = {}
        if any("raters" in drop.score for drop, _ in drops.values()):
            self.raters = {turn: raters(rows, turn) for turn, i in enumerate(self.images) if i}
        self.stages: list[OracleStage] = []
        self.weights = torch.empty(0)

    @torch.no_grad()
    def next_token(self, answer: Sequence[int]) -> int:
        """The greedy token after the prompt and ``answer``."""
        said = self.model.get_input_embeddings()(torch.tensor(answer, dtype=torch.long))
        embeds = torch.cat([self.prompt, said])
        text = torch.full((len(answer),), -1)
        self.image, self.patch = torch.cat([self.image, text]), torch.cat([self.patch, text])
        self.turn = torch.cat([self.turn, text])
        self.alive = torch.ones(len(embeds), dtype=torch.bool)
        self.numbers = torch.arange(len(embeds))
        self._note(None)
        hooks = []
        for index, layer in enumerate(self.decoder.layers):
            hooks.append(layer.register_forward_pre_hook(self._before(index), with_kwargs=True))
            hooks.append(layer.self_attn.register_forward_hook(self._attended))
        try:
            hidden = self.decoder(inputs_embeds=embeds[None], use_cache=False).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        return int(self.model.lm_head(hidden[0, -1]).argmax())

    def _before(self, index: int) -> Any:
        def hook(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            (hidden,) = args
            if index in self.drops:
                hidden = self._drop(layer, hidden[0], *self.drops[index])[None]
            seen = torch.ones(hidden.shape[1], hidden.shape[1]).tril().bool() & self.alive
            mask = torch.where(seen, 0.0, _NEVER)[None, None]
            return (hidden,), {
                **kwargs,
                "attention_mask": mask,
                "position_embeddings": self.decoder.rotary_emb(hidden, self.numbers[None]),
            }

        return hook

    def _attended(self, module: Any, args: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.weights = output[1][0]

    def _drop(self, layer: Any, hidden: torch.Tensor, drop: OracleDrop, keep: Keep) -> torch.Tensor:
        """``hidden (rows, width)`` behind the drop; ``alive`` and ``numbers`` change with it."""
        noted = None
        scores = [self._scores(turn, layer, hidden, drop.score) for turn in range(self.turns)]
        # The last turn first: what is inserted there moves no row of the turns before.
        for turn in reversed(range(self.turns)):
            candidates = torch.nonzero(self._is_image & self.alive & (self.turn == turn))[:, 0]
            images = len(self.images[turn])
            groups = 1 if drop.together else images
            count = drop.count(keep, self.patches, images)
            if len(candidates) <= count * groups:
                continue
            values = scores[turn][candidates].reshape(groups, -1)
            chosen = [
                row[best(group, count)]
                for row, group in zip(candidates.reshape(groups, -1), values, strict=True)
            ]
            goes = ~torch.isin(candidates, torch.cat(chosen))
            self.alive[candidates[goes]] = False
            if drop.recycle:
                hidden = self._recycle(hidden, candidates, goes, values.flatten(), turn)
            if turn == self.turns - 1:
                noted = values.numpy()
        if self.renumber:
            self.numbers = torch.cumsum(self.alive.long(), 0) - 1
        self._note(noted)
        return hidden

    def _recycle(
        self,
        hidden: torch.Tensor,
        candidates: torch.Tensor,
        goes: torch.Tensor,
        scores: torch.Tensor,
        turn: int,
    ) -> torch.Tensor:
        """Rows without those that go; what the best of them become stands behind all candidates."""
        dropped, of_dropped, last = candidates[goes], scores[goes].tolist(), int(candidates[-1])
        share = int(0.3 * len(dropped)) + 1
        order = sorted(range(len(dropped)), key=lambda j: (-of_dropped[j], j))[:share]
        merged = merge(hidden[dropped[order]], int(share / 10) + 1)

        def spliced(rows: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
            front, rear = self.alive[: last + 1], self.alive[last + 1 :]
            return torch.cat([rows[: last + 1][front], new, rows[last + 1 :][rear]])

        hidden = spliced(hidden, merged)
        self.image = spliced(self.image, torch.full((len(merged),), -2))
        self.patch = spliced(self.patch, torch.full((len(merged),), -1))
        self.turn = spliced(self.turn, torch.full((len(merged),), turn))
        self.alive = torch.ones(len(hidden), dtype=torch.bool)
        return hidden

    @property
    def _is_image(self) -> torch.Tensor:
        return self.image != -1

    def _last(self, turn: int) -> int:
        """Row of the last token of a turn."""
        return int(torch.nonzero(self.turn == turn)[-1])

    def _note(self, scores: np.ndarray | None) -> None:
        read = self.alive & (self.turn == self.turns - 1)
        images = self._is_image & read
        kept = [self.patch[self.alive & (self.image == i)].tolist() for i in self.images[-1]]
        self.stages.append(OracleStage(int(read.sum()), int(images.sum()), kept, scores))

    def _scores(self, turn: int, layer: Any, hidden: torch.Tensor, score: str) -> torch.Tensor:
        """``(rows,)``: what each row is worth to a turn."""
        if not self.images[turn]:
            return torch.zeros(len(hidden))
        if score == "last-row":
            return self.weights[:, self._last(turn)].mean(dim=0)
        if score == "next-layer":
            return self._next_layer(turn, layer, hidden)
        if score.startswith("raters"):
            rows = self._last(turn) + 1 - self.raters[turn]
            weights = self.weights[:, rows]
            if score == "raters-v2":
                weights = self._degravitated(turn, weights, rows)
            return weights.mean(dim=0).mean(dim=0)
        # Text rows read something too (the last patch's), which nobody looks at.
        return torch.from_numpy(self.given[score])[self.image, self.patch]

    def _next_layer(self, turn: int, layer: Any, hidden: torch.Tensor) -> torch.Tensor:
        """PyramidDrop: the coming layer's attention of the last prompt token, before it runs.

        Over the rows of the turn: the published code knows one turn only.
        """
        module = layer.self_attn
        normed = layer.input_layernorm(hidden)
        cos, sin = (part[0] for part in self.decoder.rotary_emb(hidden, self.numbers[None]))

        def heads(rows: torch.Tensor) -> torch.Tensor:
            split = rows.view(len(rows), -1, module.head_dim)
            half = module.head_dim // 2
            turned = torch.cat([-split[..., half:], split[..., :half]], dim=-1)
            return split * cos[:, None] + turned * sin[:, None]

        query, keys = heads(module.q_proj(normed)), heads(module.k_proj(normed))
        keys = keys.repeat_interleave(query.shape[1] // keys.shape[1], dim=1)
        logits = torch.einsum("hd,khd->hk", query[self._last(turn)], keys) * module.head_dim**-0.5
        seen = self.alive & (self.turn == turn)
        return logits.masked_fill(~seen, -torch.inf).softmax(dim=-1).mean(dim=0)

    def _degravitated(self, turn: int, weights: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """SparseVLM v2: attention by what distance alone would give, of the heads that see most.

        The published 1 / sqrt(head_dim) is left out: one number, the same for all, ranks nothing.
        """
        angles = self.decoder.rotary_emb.inv_freq.double()
        apart = (self.numbers[rows][:, None] - self.numbers[None]).double()
        pull = 2 * torch.cos(apart[..., None] * angles).sum(dim=-1)
        weights = weights.double() / pull
        seen = weights[:, :, self._is_image & self.alive & (self.turn == turn)].sum(dim=(1, 2))
        return weights[best(seen, round(14 / 32 * len(seen)))].float()


def best(scores: torch.Tensor, count: int) -> list[int]:
    """Indices of the highest, the lower index first on ties, ascending."""
    values = scores.tolist()
    return sorted(sorted(range(len(values)), key=lambda j: (-values[j], j))[:count])


def raters(rows: Rows, turn: int) -> torch.Tensor:
    """Text tokens behind a turn's images that these attend to most, as distances from its end."""
    embeds, is_image = rows.embeds[rows.turn == turn], rows.image[rows.turn == turn] >= 0
    text = embeds[int(torch.nonzero(is_image).max()) + 1 :]
    attended = (embeds[is_image] @ text.T).softmax(dim=-1).mean(dim=0)
    found = torch.nonzero(attended > attended.mean())[:, 0]
    assert 0 < len(found) < len(text)
    return len(text) - found


def merge(rows: torch.Tensor, clusters: int) -> torch.Tensor:
    """``rows (m, width)`` -> ``(clusters, width)``: density peaks, unweighted means."""
    apart = (rows[:, None] - rows[None]).norm(dim=-1) / rows.shape[1] ** 0.5
    near = apart.sort(dim=-1).values[:, :clusters]
    density = torch.exp(-(near**2).mean(dim=-1))
    denser = density[None] > density[:, None]
    reach = torch.where(denser, apart, apart.max()).min(dim=-1).values
    peak = (reach * density).tolist()
    centres = sorted(range(len(rows)), key=lambda j: (-peak[j], j))[:clusters]
    nearest = apart[:, centres].argmin(dim=-1)
    nearest[centres] = torch.arange(clusters)
    return torch.stack([rows[nearest == number].mean(dim=0) for number in range(clusters)])
