"""The truth: a model folder in transformers, by its ordinary way."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessorPil,
)


def chat_template(folder: Path) -> str:
    """That of a model folder, from wherever it stands in it."""
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        return jinja.read_text()
    names = [folder / name for name in ("chat_template.json", "tokenizer_config.json")]
    found: str = json.loads(next(path for path in names if path.is_file()).read_text())[
        "chat_template"
    ]
    return found


class Library:
    """A model of LLaVA-NeXT's kind: its processor's rule for placeholders is written out here.

    The processors of transformers 5 want torchvision; their image processors on Pillow do not.
    """

    around = ("", "")
    """Texts around the placeholders of an image."""

    def __init__(self, folder: Path) -> None:
        self.model: Any = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.template = chat_template(folder)
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
        token = self.tokenizer.convert_ids_to_tokens(self.model.config.image_token_id)
        ids: list[int] = self.tokenizer(text.replace(token, token.join(self.around)))["input_ids"]
        return ids

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """What the library's image processor makes for the model."""
        made = self.images(list(images), return_tensors="pt")
        return {"pixel_values": made["pixel_values"], "image_sizes": made["image_sizes"]}

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        """Image embeddings ``(n, width)`` of each image, as the model packs them."""
        return list(self.model.get_image_features(**self.pixels(images)).pooler_output)

    @torch.no_grad()
    def answer(self, images: Sequence[Image.Image], question: str, steps: int) -> list[int]:
        """Greedy answer of the model as it is: placeholders repeated, then generate."""
        ids = self.prompt(question, len(images))
        inputs: dict[str, Any] = {}
        if images:
            inputs = self.pixels(images)
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


class InternVlLibrary(Library):
    """InternVL: every image is a run of tiles, its placeholders between two tokens."""

    around = ("<img>", "</img>")

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        made = self.images(list(images), crop_to_patches=True, return_tensors="pt")
        self.tiles = made["num_patches"]
        return {"pixel_values": made["pixel_values"]}

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        found = self.model.get_image_features(**self.pixels(images)).pooler_output
        return [one.flatten(0, 1) for one in torch.split(found, [int(n) for n in self.tiles])]


class OneVisionLibrary(Library):
    """LLaVA-OneVision: of several images in a prompt each is one tile."""

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        made = self.images([list(images)], return_tensors="pt")
        names = ("pixel_values", "image_sizes", "batch_num_images")
        return {name: torch.as_tensor(made[name]) for name in names}

    def frames(self, frames: Sequence[Image.Image]) -> torch.Tensor:
        """``(1, frames, 3, H, W)``: each squeezed into one tile, as the overview of an image."""
        tiles = [self.images(frame, return_tensors="pt")["pixel_values"][0, 0] for frame in frames]
        return torch.stack(tiles)[None]

    @torch.no_grad()
    def video_features(self, frames: Sequence[Image.Image]) -> torch.Tensor:
        """``(n, width)``, as the model lays them out."""
        features: torch.Tensor = self.model.get_video_features(self.frames(frames)).pooler_output
        return features[0]

    @torch.no_grad()
    def answer_video(self, frames: Sequence[Image.Image], question: str, steps: int) -> list[int]:
        """Greedy answer about a video: placeholders repeated, then generate."""
        video = self.model.config.video_token_id
        count = len(self.video_features(frames))
        ids = [
            t
            for token in self.video_prompt(question)
            for t in [token] * (count if token == video else 1)
        ]
        given = torch.tensor([ids])
        out = self.model.generate(
            input_ids=given,
            attention_mask=torch.ones_like(given),
            pixel_values_videos=self.frames(frames),
            max_new_tokens=steps,
            do_sample=False,
        )
        tokens: list[int] = out[0, len(ids) :].tolist()
        return tokens

    def video_prompt(self, question: str) -> list[int]:
        """Token ids with one video token."""
        content = [{"type": "video"}, {"type": "text", "text": question}]
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}],
            chat_template=self.template,
            add_generation_prompt=True,
            tokenize=False,
        )
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids

    def embedded_video(self, rows: torch.Tensor, question: str) -> torch.Tensor:
        """Embeddings ``(1, tokens, width)`` of a question with a video's embeddings."""
        table = self.model.get_input_embeddings()
        video = self.model.config.video_token_id
        found = [
            rows if token == video else table(torch.tensor([token]))
            for token in self.video_prompt(question)
        ]
        return torch.cat(found)[None]


class VideoLlavaLibrary(OneVisionLibrary):
    """Video-LLaVA: every frame goes through a tower of its own and keeps its [CLS]."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.images = CLIPImageProcessorPil.from_pretrained(folder)

    def pixels(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.images(list(images), return_tensors="pt")["pixel_values"]}

    def frames(self, frames: Sequence[Image.Image]) -> torch.Tensor:
        pixels: torch.Tensor = self.images(list(frames), return_tensors="pt")["pixel_values"]
        return pixels[None]

    @torch.no_grad()
    def features(self, images: Sequence[Image.Image]) -> list[torch.Tensor]:
        return list(self.model.get_image_features(**self.pixels(images)).pooler_output)

    @torch.no_grad()
    def video_features(self, frames: Sequence[Image.Image]) -> torch.Tensor:
        layer = self.model.config.vision_feature_layer
        found = self.model.model.get_video_features(
            pixel_values_videos=self.frames(frames), vision_feature_layer=layer
        )
        features: torch.Tensor = found.pooler_output
        return features.flatten(0, 1)
