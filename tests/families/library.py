"""The truth: a model folder in transformers, by its ordinary way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer


class Library:
    """A model of LLaVA-NeXT's kind: its processor's rule for placeholders is written out here.

    The processors of transformers 5 want torchvision; their image processors on Pillow do not.
    """

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.template = (folder / "chat_template.jinja").read_text()
        self.images: Any = AutoImageProcessor.from_pretrained(folder, backend="pil")

    def prompt(self, question: str, images: int) -> list[int]:
        """Token ids with one placeholder for each image."""
        content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self.template,
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def pixels(self, images: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """``pixel_values`` and ``image_sizes`` of the library's processor."""
        made = self.images(list(images), return_tensors="pt")
        return made["pixel_values"], made["image_sizes"]

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Image embeddings ``(n, width)`` of each image, as the model packs them."""
        pixels, sizes = self.pixels(images)
        found = self.model.get_image_features(pixel_values=pixels, image_sizes=sizes)
        return list(found.pooler_output)

    @torch.no_grad()
    def answer(self, images: Sequence[Image.Image], question: str, steps: int) -> list[int]:
        """Greedy answer of the model as it is: placeholders repeated, then generate."""
        ids = self.prompt(question, len(images))
        inputs: dict[str, Any] = {}
        if images:
            pixels, sizes = self.pixels(images)
            inputs = {"pixel_values": pixels, "image_sizes": sizes}
            counts = iter([len(one) for one in self.features(images)])
            image = self.model.config.image_token_id
            ids = [t for token in ids for t in [token] * (next(counts) if token == image else 1)]
        given = torch.tensor([ids])
        out = self.model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=steps,
            do_sample=False,
            **inputs,
        )
        tokens: list[int] = out[0, len(ids) :].tolist()
        return tokens

    def embedded(self, image: torch.Tensor, question: str) -> torch.Tensor:
        """Embeddings ``(1, tokens, width)`` of a question with one image's embeddings."""
        table = self.model.get_input_embeddings()
        rows = [
            image if token == self.model.config.image_token_id else table(torch.tensor([token]))
            for token in self.prompt(question, 1)
        ]
        return torch.cat(rows)[None]

    @torch.no_grad()
    def continue_from(self, embeds: torch.Tensor, steps: int) -> list[int]:
        """Greedy answer after embeddings, positions 0, 1, 2, ..."""
        out = self.model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=steps,
            do_sample=False,
        )
        tokens: list[int] = out[0].tolist()
        return tokens
