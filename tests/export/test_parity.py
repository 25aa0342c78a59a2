"""Exported graphs against Hugging Face, and pruned runs against FasterVLM written from its paper.

The reference below knows nothing of the exporter: it takes scores from the eager attention that
transformers returns, selects with a plain sort, projects all tokens and then drops (the published
order of things), and lets ``generate`` of transformers do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

import vtp
from vtp.errors import KeepOutOfRange
from vtp.runtime.bundle.plan import keep_count

QUESTION = "how many shapes are there?"
STEPS = 16
VARIANTS = [
    "grouped-query",
    "multi-head",
    "tied-head",
    "wide-heads",
    "llama3-rope",
    "mistral",
    "qwen2",
    "last-layer",
    "second-layer",
]


def picture(seed: int, size: tuple[int, int] = (61, 53)) -> Image.Image:
    """Noise, so that every patch differs."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class HuggingFace:
    """A model folder opened with transformers alone."""

    def __init__(self, folder: Path) -> None:
        self.model = LlavaForConditionalGeneration.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.processor = AutoProcessor.from_pretrained(folder)
        self.tokenizer = self.processor.tokenizer

    def prompt(self, question: str, images: int) -> str:
        content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        text: str = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        return text

    @torch.no_grad()
    def unpruned(self, images: Sequence[Image.Image], question: str) -> list[int]:
        """Greedy answer by the ordinary way: processor, then generate."""
        inputs = self.processor(
            images=list(images) or None,
            text=self.prompt(question, len(images)),
            return_tensors="pt",
        )
        out = self.model.generate(**inputs, max_new_tokens=STEPS, do_sample=False)
        tokens: list[int] = out[0, inputs["input_ids"].shape[1] :].tolist()
        return tokens

    @torch.no_grad()
    def fastervlm(
        self, images: Sequence[Image.Image], question: str, keep: int
    ) -> tuple[list[int], list[list[int]], np.ndarray]:
        """Greedy answer, kept indices and scores with ``keep`` tokens of each image."""
        config, inner = self.model.config, self.model.model
        pixels = self.processor.image_processor(list(images), return_tensors="pt")["pixel_values"]
        tower = inner.vision_tower(pixels, output_hidden_states=True, output_attentions=True)
        layer = config.vision_feature_layer
        # hidden_states has one entry more than attentions: entry i comes out of attention i - 1.
        attention = tower.attentions[layer if layer < 0 else layer - 1]
        scores = attention[:, :, 0, 1:].mean(dim=1)
        projected = inner.multi_modal_projector(tower.hidden_states[layer][:, 1:])
        kept = [
            sorted(sorted(range(len(row)), key=lambda j, row=row: (-row[j], j))[:keep])
            for row in scores.tolist()
        ]
        ids = self.tokenizer(self.prompt(question, len(images)))["input_ids"]
        rows, seen = [], 0
        for token in ids:
            if token == config.image_token_id:
                rows.append(projected[seen][kept[seen]])
                seen += 1
            else:
                rows.append(self.model.get_input_embeddings()(torch.tensor([token])))
        embeds = torch.cat(rows)[None]
        return self.continue_from(embeds), kept, scores.numpy()

    def continue_from(self, embeds: torch.Tensor) -> list[int]:
        """Greedy answer after embeddings ``(1, tokens, width)``, positions 0, 1, 2, ..."""
        with torch.no_grad():
            out = self.model.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
                max_new_tokens=STEPS,
                do_sample=False,
            )
        tokens: list[int] = out[0].tolist()
        return tokens


class Pair(NamedTuple):
    """A model in transformers, and its bundle in every target."""

    reference: HuggingFace
    pipelines: dict[str, vtp.Pipeline]


@pytest.fixture(params=VARIANTS, scope="module")
def pair(
    request: pytest.FixtureRequest,
    llava: Callable[[str], Path],
    exported: Callable[..., Path],
) -> Pair:
    bundle = exported(request.param)
    pipelines = {target: vtp.load(bundle, target=target) for target in ("ort", "onnx", "trt10")}
    return Pair(HuggingFace(llava(request.param)), pipelines)


@pytest.mark.parametrize("images", [0, 1, 2])
def test_unpruned_answers_are_those_of_transformers(pair: Pair, images: int) -> None:
    pictures = [picture(seed) for seed in range(images)]
    expected = pair.reference.unpruned(pictures, QUESTION)
    for pipeline in pair.pipelines.values():
        result = pipeline.generate(pictures, QUESTION, keep=1.0, max_new_tokens=STEPS)
        assert list(result.tokens) == expected


@pytest.mark.parametrize(("keep", "images"), [(0.5, 1), (0.1, 1), (1, 1), (144, 1), (0.25, 2)])
def test_pruned_answers_are_those_of_fastervlm(pair: Pair, keep: int | float, images: int) -> None:
    pictures = [picture(10 + seed) for seed in range(images)]
    count = keep_count(keep, 144)
    tokens, kept, scores = pair.reference.fastervlm(pictures, QUESTION, count)
    for pipeline in pair.pipelines.values():
        result = pipeline.generate(pictures, QUESTION, keep=keep, max_new_tokens=STEPS)
        np.testing.assert_allclose(np.stack(result.scores), scores, atol=1e-6)
        assert [indices.tolist() for indices in result.kept] == kept
        assert list(result.tokens) == tokens
        text_tokens = result.prompt_tokens - result.image_tokens
        assert result.image_tokens == count * images
        assert result.cache_tokens == text_tokens + count * images + len(result.tokens) - 1


def test_the_method_none_reads_every_token(
    llava: Callable[[str], Path], exported: Callable[..., Path]
) -> None:
    reference = HuggingFace(llava("grouped-query"))
    pipeline = vtp.load(exported("grouped-query", "none"))
    result = pipeline.generate(picture(3), QUESTION, max_new_tokens=STEPS)
    assert list(result.tokens) == reference.unpruned([picture(3)], QUESTION)
    assert result.image_tokens == 144
    assert not result.scores
    with pytest.raises(KeepOutOfRange):
        pipeline.generate(picture(3), QUESTION, keep=0.5)


def test_a_second_turn_reads_the_first_from_the_cache(
    llava: Callable[[str], Path], exported: Callable[..., Path]
) -> None:
    reference = HuggingFace(llava("grouped-query"))
    chat = vtp.load(exported("grouped-query")).chat(capacity=200)
    first = chat.ask(picture(4), QUESTION, keep=20, max_new_tokens=6)
    second = chat.ask("what number is shown?", max_new_tokens=STEPS)

    # The whole conversation as one prompt: turn 1 as rendered, its answer's tokens, turn 2.
    model, tokenizer = reference.model, reference.tokenizer
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": "ANSWER"}]},
        {"role": "user", "content": [{"type": "text", "text": "what number is shown?"}]},
    ]
    text = reference.processor.apply_chat_template(turns, add_generation_prompt=True)
    head, tail = text.split("ANSWER")
    eos = model.generation_config.eos_token_id
    answer = [token for token in first.tokens if token != eos]
    ids = (
        tokenizer(head)["input_ids"]
        + answer
        + tokenizer(tail, add_special_tokens=False)["input_ids"]
    )
    place = ids.index(model.config.image_token_id)
    kept = reference.fastervlm([picture(4)], QUESTION, 20)[1][0]
    assert first.kept[0].tolist() == kept
    with torch.no_grad():
        pixels = reference.processor.image_processor([picture(4)], return_tensors="pt")
        features = model.get_image_features(**pixels).pooler_output[0][kept]
        table = model.get_input_embeddings()
        before, after = torch.tensor(ids[:place]), torch.tensor(ids[place + 1 :])
        embeds = torch.cat([table(before), features, table(after)])[None]
    assert list(second.tokens) == reference.continue_from(embeds)
    assert second.cache_tokens == embeds.shape[1] + len(second.tokens) - 1


def test_streamed_pieces_are_the_text(exported: Callable[..., Path]) -> None:
    pipeline = vtp.load(exported("grouped-query"))
    answer = pipeline.stream(picture(5), QUESTION, keep=0.5, max_new_tokens=STEPS)
    pieces = list(answer)
    assert len(pieces) > 3
    assert "".join(pieces) == answer.result.text
    whole = pipeline.generate(picture(5), QUESTION, keep=0.5, max_new_tokens=STEPS)
    assert whole.text == answer.result.text


def test_sampling_repeats_with_a_seed(exported: Callable[..., Path]) -> None:
    pipeline = vtp.load(exported("grouped-query"))
    settings: dict[str, Any] = {"max_new_tokens": STEPS, "temperature": 5.0, "top_p": 0.95}
    answers = [
        pipeline.generate(picture(6), QUESTION, seed=seed, **settings).tokens for seed in (1, 1, 2)
    ]
    assert answers[0] == answers[1] != answers[2]
