"""The two sides of the comparison: the same steps, on the same inputs, timed one by one.

Both start from the same float32 pixels and the same token ids. Hugging Face is run at its best:
``sdpa`` attention, ``inference_mode``, logits of the last position only, its layers called without
``generate``, which costs extra and is measured apart.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from ..runtime.chat.pipeline import load
from ..runtime.model.cache import KVCache
from ..runtime.model.splice import splice
from ..runtime.model.vision import VisionOutput
from ..runtime.preprocessing import Medium

PROMPT = "What is in the picture?"


def timed(function: Any, *arguments: Any) -> tuple[float, Any]:
    """Milliseconds that a call takes, and what it returns."""
    started = perf_counter()
    result = function(*arguments)
    return (perf_counter() - started) * 1e3, result


class Ours:
    """This runtime on a bundle.

    Args:
        bundle: folder that ``vtp export`` wrote.
        threads: CPU threads.
        room: tokens that will be decoded at most.
    """

    def __init__(self, bundle: Path, threads: int, room: int) -> None:
        self.pipe = load(bundle, "cpu", threads=threads)
        self.manifest = self.pipe.bundle.manifest
        self._room = room
        layout = self.manifest.prompt
        self.tokens = self.pipe.text.encode(layout.render_turn(PROMPT, 1, first=True))
        self.image_token = layout.image_token_id

    def pixels(self, image: Image.Image) -> Medium:
        """An image, preprocessed."""
        return self.manifest.preprocessing(image)

    def length(self, keep: float) -> int:
        """Tokens in prefill."""
        return len(self.tokens) - 1 + self.kept(keep)

    def kept(self, keep: float) -> int:
        """Image tokens behind the vision graph."""
        plan = self.manifest.plan
        return plan.tile_keep(keep, plan.tokens)

    def vision(self, pixels: Medium, keep: float) -> VisionOutput:
        """Vision graph with selection and projector."""
        return self.pipe.vision([pixels], [self.kept(keep)])

    def prefill(self, output: VisionOutput) -> tuple[np.ndarray, KVCache]:
        """A fresh cache, splice of the embeddings, language graph; logits ``(vocab,)``."""
        ids = [self.image_token]
        prompt = splice(self.pipe.decoder, self.tokens, ids, output.rows, output.arranged())
        cache = self.pipe.decoder.cache(prompt.placement.tokens + self._room)
        return self.pipe.decoder.prefill(prompt, cache).logits, cache

    def decode(self, logits: np.ndarray, cache: KVCache, steps: int) -> np.ndarray:
        """Greedy decoding; logits after the last step."""
        loop = self.pipe.decoder.decode(cache)
        for _ in range(steps):
            logits = loop.step(int(logits.argmax()))
        return logits

    def first_token(self, image: Image.Image, keep: float) -> int:
        """From image and question to the first token, through the public interface."""
        result = self.pipe.generate(image, PROMPT, keep=keep, max_new_tokens=1)
        return result.tokens[0]

    def answer(self, image: Image.Image, steps: int, keep: float) -> int:
        """A whole answer, through the public interface; how many tokens it has."""
        return len(self.pipe.generate(image, PROMPT, keep=keep, max_new_tokens=steps).tokens)


class HuggingFace:
    """transformers on a model folder.

    Args:
        folder: the model.
        threads: CPU threads.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        import torch
        from transformers import (
            AutoImageProcessor,
            AutoTokenizer,
            LlavaForConditionalGeneration,
        )
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self._torch = torch
        torch.set_num_threads(threads)
        self.model = LlavaForConditionalGeneration.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
        ).eval()
        self.processor = AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, backend="pil"
        )
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        self._image_token = self.model.config.image_token_id
        self._table = self.model.get_input_embeddings()
        self._language = self.model.model.language_model

    def pixels(self, image: Image.Image) -> Any:
        """Pixel values of an image."""
        return self.processor(images=image, return_tensors="pt")["pixel_values"]

    def encode(self) -> list[int]:
        """Token ids of the question, one image token for the image."""
        content = [{"type": "image"}, {"type": "text", "text": PROMPT}]
        turns: list[Any] = [{"role": "user", "content": content}]
        text = self.tokenizer.apply_chat_template(
            turns,
            chat_template=self._template,
            add_generation_prompt=True,
            tokenize=False,
        )
        return list(self.tokenizer(text)["input_ids"])

    def vision(self, pixels: Any) -> Any:
        """Tower and projector: ``(tokens, width)``."""
        return self.model.get_image_features(pixels).pooler_output[0]

    def prefill(self, tokens: list[int], image: Any, cache: Any = None) -> tuple[Any, Any]:
        """A fresh ``DynamicCache``, splice of the embeddings, decoder; logits ``(1, vocab)``."""
        from transformers import DynamicCache

        torch, place = self._torch, tokens.index(self._image_token)
        before, after = torch.tensor(tokens[:place]), torch.tensor(tokens[place + 1 :])
        embeds = torch.cat((self._table(before), image, self._table(after)))[None]
        if cache is None:
            cache = DynamicCache(config=self.model.config.text_config)
        return self._step(embeds, cache), cache

    def decode(self, logits: Any, cache: Any, steps: int) -> Any:
        """Greedy decoding; logits after the last step."""
        for _ in range(steps):
            logits = self._step(self._table(logits.argmax(-1, keepdim=True)), cache)
        return logits

    def first_token(self, image: Image.Image) -> int:
        """From image and question to the first token."""
        pixels, tokens = self.pixels(image), self.encode()
        logits, _ = self.prefill(tokens, self.vision(pixels))
        return int(logits.argmax())

    def answer(self, image: Image.Image, steps: int) -> int:
        """A whole answer with ``generate``; how many tokens it has."""
        torch, tokens = self._torch, self.encode()
        place = tokens.index(self._image_token)
        count = self.model.config.image_seq_length
        ids = [*tokens[:place], *[self._image_token] * count, *tokens[place + 1 :]]
        out = self.model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.int64),
            pixel_values=self.pixels(image),
            max_new_tokens=steps,
            do_sample=False,
        )
        return int(out.shape[1]) - len(ids)

    def static_cache(self, capacity: int) -> Any:
        """A preallocated cache."""
        from transformers import StaticCache

        return StaticCache(config=self.model.config.text_config, max_cache_len=capacity)

    def _step(self, embeds: Any, cache: Any) -> Any:
        out = self._language(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        return self.model.lm_head(out.last_hidden_state[:, -1])
