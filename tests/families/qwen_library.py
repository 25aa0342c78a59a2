"""The truth for Qwen2-VL and Qwen2.5-VL: the library's model, and pruning written out over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AttentionInterface
from transformers.models.qwen2_vl.modeling_qwen2_vl import eager_attention_forward
from transformers.vision_utils import get_vision_window_index

from .library import Library


class QwenLibrary(Library):
    """A model folder of either family."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.image_token = self.model.config.image_token_id
        eos = self.model.generation_config.eos_token_id
        self.eos = set(eos if isinstance(eos, list) else [eos])

    def pixels(self, images: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """``pixel_values`` and ``image_grid_thw`` of the library's processor."""
        made = self.images(list(images), return_tensors="pt")
        return made["pixel_values"], made["image_grid_thw"]

    def inputs(self, ids: Sequence[int], images: Sequence[Image.Image]) -> dict[str, Any]:
        """What the library's processor gives to the model: as many placeholders as image tokens."""
        if not images:
            return {"input_ids": torch.tensor([list(ids)])}
        pixels, grids = self.pixels(images)
        counts = iter((grids.prod(dim=1) // 4).tolist())
        repeats = [next(counts) if token == self.image_token else 1 for token in ids]
        tokens = torch.tensor([list(ids)]).repeat_interleave(torch.tensor(repeats), dim=1)
        return {
            "input_ids": tokens,
            "mm_token_type_ids": (tokens == self.image_token).int(),
            "pixel_values": pixels,
            "image_grid_thw": grids,
        }

    @torch.no_grad()
    def continued(self, ids: Sequence[int], images: Sequence[Image.Image], steps: int) -> list[int]:
        """Greedy answer of the library after these ids, one placeholder for each image."""
        inputs = self.inputs(ids, images)
        mask = torch.ones_like(inputs["input_ids"])
        out = self.model.generate(
            **inputs, attention_mask=mask, max_new_tokens=steps, do_sample=False
        )
        tokens: list[int] = out[0, mask.shape[1] :].tolist()
        return tokens

    @torch.no_grad()
    def continued_video(
        self, ids: Sequence[int], frames: Sequence[Image.Image], steps: int
    ) -> list[int]:
        """Greedy answer about a video: two frames together make the patches of one time.

        The library's video processor wants torchvision. Its patches are put together here from
        those of the frames as images, which hold the same frame twice.
        """
        config = self.model.config
        made = [self.pixels([frame]) for frame in frames]
        patch = config.vision_config.patch_size
        single = [pixels.reshape(-1, 3, 2, patch, patch)[:, :, :1] for pixels, _ in made]
        pairs = [
            torch.cat(pair, dim=2).flatten(1)
            for pair in zip(single[::2], single[1::2], strict=True)
        ]
        grid = made[0][1].clone()
        grid[0, 0] = len(pairs)
        count = int(grid.prod()) // 4
        repeats = [count if token == config.video_token_id else 1 for token in ids]
        tokens = torch.tensor([list(ids)]).repeat_interleave(torch.tensor(repeats), dim=1)
        inputs: dict[str, Any] = {
            "input_ids": tokens,
            "attention_mask": torch.ones_like(tokens),
            "mm_token_type_ids": 2 * (tokens == config.video_token_id).int(),
            "pixel_values_videos": torch.cat(pairs),
            "video_grid_thw": grid,
        }
        if hasattr(config.vision_config, "tokens_per_second"):
            # Of frames without a rate the library takes 24 a second, two of them at a time.
            inputs["second_per_grid_ts"] = torch.tensor([2 / 24])
        out = self.model.generate(**inputs, max_new_tokens=steps, do_sample=False)
        answer: list[int] = out[0, tokens.shape[1] :].tolist()
        return answer

    @torch.no_grad()
    def column_means(self, image: Image.Image, block: int) -> torch.Tensor:
        """``(tokens,)``: attention that a token's patches receive in a block of the tower, mean
        over heads, the patches that give it, and the four that receive it."""
        pixels, grid = self.pixels([image])
        tower = self.model.model.visual
        with _noted(tower) as weights:
            tower(pixels, grid_thw=grid)
        (found,) = weights[id(tower.blocks[block].attn)]
        by_token = found[0].mean(dim=(0, 1)).reshape(-1, 4).mean(dim=1)
        config = self.model.config.vision_config
        if not hasattr(config, "window_size"):
            return by_token
        # The tower of Qwen2.5-VL works on tokens in the order of their windows.
        index, _ = get_vision_window_index(grid, 2, config.window_size, config.patch_size)
        scores = torch.empty_like(by_token)
        scores[index] = by_token
        return scores

    @torch.no_grad()
    def pruned(
        self, image: Image.Image, ids: Sequence[int], steps: int, kept: Sequence[int]
    ) -> list[int]:
        """Greedy answer with some image tokens alone, numbered as in the whole prompt."""
        embeds, numbers, places = self._read(image, ids)
        chosen = torch.zeros(len(places), dtype=torch.bool)
        chosen[list(kept)] = True
        stays = torch.ones(embeds.shape[1], dtype=torch.bool)
        stays[places] = chosen
        after = int(numbers.max()) + 1
        return self._greedy(embeds[:, stays], numbers[:, stays], after, steps)

    @torch.no_grad()
    def fastv(
        self, image: Image.Image, ids: Sequence[int], steps: int, layer: int, count: int
    ) -> list[int]:
        """Greedy answer of FastV (arXiv 2403.06764): before ``layer`` all but ``count`` image
        tokens go, by the last row's attention in the layer before, mean over heads."""
        embeds, numbers, places = self._read(image, ids)
        text = self.model.model.language_model
        attention = text.layers[layer - 1].self_attn
        with _noted(text) as weights:
            self._through(embeds, numbers, range(layer))
        row = weights[id(attention)][0][0, :, -1].mean(dim=0)[places].tolist()
        best = sorted(range(len(row)), key=lambda place: (-row[place], place))[:count]
        gone = torch.ones(len(places), dtype=torch.bool)
        gone[best] = False
        after = int(numbers.max()) + 1
        return self._greedy(embeds, numbers, after, steps, layer, places[gone])

    def _read(
        self, image: Image.Image, ids: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeddings ``(1, n, width)`` of a prompt, its numbers ``(3, n)``, image token places."""
        inputs = self.inputs(ids, [image])
        tokens, grids = inputs["input_ids"], inputs["image_grid_thw"]
        numbers, _ = self.model.model.get_rope_index(
            tokens, inputs["mm_token_type_ids"], image_grid_thw=grids
        )
        embeds = self.model.get_input_embeddings()(tokens)
        places = torch.nonzero(tokens[0] == self.image_token)[:, 0]
        found = self.model.get_image_features(inputs["pixel_values"], grids).pooler_output[0]
        embeds[0, places] = found
        return embeds, numbers[:, 0], places

    def _greedy(
        self,
        embeds: torch.Tensor,
        numbers: torch.Tensor,
        after: int,
        steps: int,
        layer: int = 0,
        gone: Sequence[int] | torch.Tensor = (),
    ) -> list[int]:
        """All is computed anew for every token; rows ``gone`` end before ``layer``."""
        text, tokens = self.model.model.language_model, []
        while len(tokens) < steps and not self.eos & set(tokens):
            stays = torch.ones(embeds.shape[1], dtype=torch.bool)
            stays[torch.as_tensor(gone, dtype=torch.int64)] = False
            hidden = self._through(embeds, numbers, range(layer))[:, stays]
            hidden = self._through(hidden, numbers[:, stays], range(layer, len(text.layers)))
            tokens.append(int(self.model.lm_head(text.norm(hidden[0, -1])).argmax()))
            new = self.model.get_input_embeddings()(torch.tensor([[tokens[-1]]]))
            embeds = torch.cat((embeds, new), dim=1)
            number = torch.full((3, 1), after + len(tokens) - 1)
            numbers = torch.cat((numbers, number), dim=1)
        return tokens

    def _through(self, hidden: torch.Tensor, numbers: torch.Tensor, layers: range) -> torch.Tensor:
        text, count = self.model.model.language_model, hidden.shape[1]
        mask = torch.full((count, count), float("-inf")).triu(1)[None, None]
        angles = text.rotary_emb(hidden, numbers[:, None])
        for number in layers:
            hidden = text.layers[number](hidden, attention_mask=mask, position_embeddings=angles)
        return hidden


@contextmanager
def _noted(model: Any) -> Iterator[dict[int, list[torch.Tensor]]]:
    """Attention weights that the library's own function computes, by the id of their module."""
    weights: dict[int, list[torch.Tensor]] = defaultdict(list)

    def noting(module: Any, *arguments: Any, **more: Any) -> tuple[torch.Tensor, torch.Tensor]:
        out, found = eager_attention_forward(module, *arguments, **more)
        weights[id(module)].append(found)
        return out, found

    before = model.config._attn_implementation
    AttentionInterface.register("noting", noting)
    model.set_attn_implementation("noting")
    try:
        yield weights
    finally:
        model.set_attn_implementation(before)
