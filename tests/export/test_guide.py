"""SGL's small side: scores, certainty and early exit against Hugging Face's own attentions.

The reference reads the attention that transformers returns, adds it up as the paper says (all
layers, all heads, the prompt's rows behind the image and the generated rows), and works the
consistency out by a full forward over the prompt with the best 5 % of the image tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

import vtp
from vtp.errors import ContextTooLong, GuideMismatch, GuideMissing, SamplingInvalid
from vtp.export import ExportOptions, export_model
from vtp.runtime.chat.chat import Chat
from vtp.runtime.files.tensorfile import TensorFile
from vtp.runtime.media.images import load_image
from vtp.runtime.model.loaded import LoadedBundle

QUESTION = "how many shapes are there?"
STEPS = 16
TOKENS = 144


def picture(seed: int) -> Image.Image:
    """Noise, so that every patch differs."""
    pixels = np.random.default_rng(seed).integers(0, 256, (53, 61, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


class SmallModel:
    """The guide in transformers alone."""

    def __init__(self, folder: Path) -> None:
        self.model = LlavaForConditionalGeneration.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    @torch.no_grad()
    def answer(
        self, images: Sequence[Image.Image], include_last_row: bool = True
    ) -> tuple[list[int], np.ndarray, float, float]:
        """Tokens, scores ``(images, tokens)``, confidence and consistency."""
        model, config = self.model, self.model.config
        content: list[dict[str, Any]] = [{"type": "image"}] * len(images)
        content.append({"type": "text", "text": QUESTION})
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        inputs = self.processor(images=list(images), text=text, return_tensors="pt")
        prompt = inputs["input_ids"]
        columns = torch.nonzero(prompt[0] == config.image_token_id)[:, 0]
        last, total = int(columns[-1]), torch.zeros(len(columns))
        tokens: list[int] = []
        chosen: list[float] = []
        eos = model.generation_config.eos_token_id
        while len(tokens) < STEPS and (not tokens or tokens[-1] != eos):
            ids = torch.cat([prompt, torch.tensor([tokens], dtype=torch.long)], dim=1)
            out = model(
                input_ids=ids,
                pixel_values=inputs["pixel_values"],
                output_attentions=True,
                use_cache=False,
            )
            row = torch.softmax(out.logits[0, -1].double(), dim=-1)
            chosen.append(float(row.max()))
            tokens.append(int(row.argmax()))
        # All rows of one forward over the prompt and what was read again of the answer.
        for layer in out.attentions:
            first = last if include_last_row else last + 1
            total += layer[0, :, first:, :][:, :, columns].sum(dim=(0, 1))
        confidence = float(np.exp(np.mean(np.log(chosen))))
        consistency = self._consistency(inputs, columns, total, tokens)
        return tokens, total.reshape(len(images), -1).numpy(), confidence, consistency

    def _consistency(
        self, inputs: Any, columns: torch.Tensor, total: torch.Tensor, tokens: list[int]
    ) -> float:
        model = self.model
        keep = int(len(columns) * 0.05)
        best = sorted(range(len(columns)), key=lambda j: (-float(total[j]), j))[:keep]
        prompt = inputs["input_ids"][0]
        features = model.get_image_features(inputs["pixel_values"]).pooler_output
        embeds = model.get_input_embeddings()(prompt)
        embeds[columns] = torch.cat(list(features))
        kept = [
            row
            for row in range(len(prompt))
            if row not in set(columns.tolist()) or row in set(columns[best].tolist())
        ]
        said = torch.tensor(tokens[:-1], dtype=torch.long)
        rows = torch.cat([embeds[kept], model.get_input_embeddings()(said)])
        positions = torch.cat([torch.tensor(kept), len(prompt) + torch.arange(len(said))])
        hidden = model.model.language_model(
            inputs_embeds=rows[None], position_ids=positions[None], use_cache=False
        ).last_hidden_state[0]
        logits = torch.log_softmax(model.lm_head(hidden[len(kept) - 1 :]).double(), dim=-1)
        return float(torch.exp(sum(logits[i, token] for i, token in enumerate(tokens))))


@pytest.fixture(scope="module")
def bundles(
    llava: Callable[[str], Path], exported: Callable[..., Path], made_once: Any
) -> dict[str, Path]:
    """A guide, and a larger model that drops by it."""
    other = {"include_last_visual_row": False}
    lone = ExportOptions(method="guide", parameters=other, targets=("ort",))
    return {
        "guide": exported("grouped-query", "guide", keep=None),
        "large": exported("deep", "sgl:35", keep=None),
        "lone-row": made_once(
            "lone-row", lambda out: export_model(str(llava("grouped-query")), out, lone)
        ),
    }


@pytest.mark.parametrize("target", ["ort", "onnx", "trt10"])
@pytest.mark.parametrize("images", [1, 2])
def test_the_guide_adds_up_what_transformers_attended_to(
    bundles: dict[str, Path], llava: Callable[[str], Path], target: str, images: int
) -> None:
    pictures = [picture(40 + seed) for seed in range(images)]
    pipe = vtp.load(bundles["large"], target=target, guide=bundles["guide"])
    result = pipe.generate(pictures, QUESTION, max_new_tokens=STEPS, exit_threshold=2.0)
    small = SmallModel(llava("grouped-query"))
    tokens, scores, confidence, consistency = small.answer(pictures)
    assert result.guide is not None
    assert not result.guide.exited
    np.testing.assert_allclose(np.stack(result.guide.scores), scores, rtol=1e-4, atol=1e-5)
    assert result.guide.confidence == pytest.approx(confidence, rel=1e-4)
    assert result.guide.consistency == pytest.approx(consistency, rel=1e-3)
    assert result.guide.certainty == pytest.approx((confidence + consistency) / 2, rel=1e-3)
    assert result.guide.text == pipe.text.decode(tokens)


def test_the_row_of_the_last_image_token_can_be_left_out(
    bundles: dict[str, Path], llava: Callable[[str], Path]
) -> None:
    pipe = vtp.load(bundles["large"], guide=bundles["lone-row"])
    result = pipe.generate([picture(50)], QUESTION, max_new_tokens=STEPS)
    small = SmallModel(llava("grouped-query"))
    without, with_row = (small.answer([picture(50)], row)[1] for row in (False, True))
    assert result.guide is not None
    np.testing.assert_allclose(result.guide.scores[0], without[0], rtol=1e-4, atol=1e-5)
    assert np.abs(without - with_row).max() > 1e-2


def test_the_large_model_drops_by_the_guides_scores(
    bundles: dict[str, Path], llava: Callable[[str], Path]
) -> None:
    pictures = [picture(60), picture(61)]
    pipe = vtp.load(bundles["large"], guide=bundles["guide"])
    result = pipe.generate(pictures, QUESTION, keep=0.1, max_new_tokens=STEPS)
    scores = SmallModel(llava("grouped-query")).answer(pictures)[1].ravel()
    best = sorted(sorted(range(len(scores)), key=lambda j: (-scores[j], j))[: len(scores) // 10])
    expected = [[j - TOKENS * image for j in best if j // TOKENS == image] for image in (0, 1)]
    assert [kept.tolist() for kept in result.stages[1].kept] == expected
    chat, scores = Chat(pipe, None), {"guide": scores.reshape(2, -1)}
    alone = chat.request(pictures, QUESTION, scores=scores, keep=0.1, max_new_tokens=STEPS)
    assert result.tokens == chat.run(alone).finish().tokens


def test_a_sure_guide_answers_alone(bundles: dict[str, Path]) -> None:
    pipe = vtp.load(bundles["large"], guide=bundles["guide"])
    answer = pipe.stream([picture(70)], QUESTION, max_new_tokens=STEPS, exit_threshold=0.0)
    pieces = list(answer)
    result = answer.result
    assert result.guide is not None
    assert result.guide.exited
    assert result.stages == ()
    small = vtp.load(bundles["guide"])
    alone = small.generate([picture(70)], QUESTION, max_new_tokens=STEPS)
    assert result.tokens == alone.tokens
    assert "".join(pieces) == result.text == alone.text
    assert result.cache_tokens == alone.cache_tokens


def test_a_guide_sees_one_turn_of_a_conversation(bundles: dict[str, Path]) -> None:
    pipe = vtp.load(bundles["large"], guide=bundles["guide"])
    chat = pipe.chat(capacity=400)
    first = chat.ask(picture(80), QUESTION, max_new_tokens=4)
    second = chat.ask(picture(81), QUESTION, max_new_tokens=4)
    alone = pipe.generate(picture(81), QUESTION, max_new_tokens=4)
    assert first.guide is not None
    assert second.guide is not None
    assert alone.guide is not None
    np.testing.assert_allclose(second.guide.scores[0], alone.guide.scores[0], rtol=1e-6)
    with pytest.raises(SamplingInvalid, match="none in a conversation"):
        chat.ask(QUESTION, exit_threshold=0.5)


def test_what_a_guide_reports_is_verified(bundles: dict[str, Path]) -> None:
    measured = vtp.load(bundles["guide"]).bundle.manifest.golden.measured
    assert {d.target for d in measured if d.output == "received"} == {"ort", "onnx", "trt10"}
    golden = TensorFile(bundles["guide"] / "golden.safetensors").tensor("0.received")
    assert golden.shape == (TOKENS,)
    assert np.all(np.asarray(golden) > 0)


def test_more_than_the_guide_can_read(bundles: dict[str, Path]) -> None:
    # 4 x 144 image tokens: beyond the guide's 512 positions, and the large model's.
    pipe = vtp.load(bundles["large"], guide=bundles["guide"])
    images = [load_image(picture(n), max_pixels=10**6) for n in range(4)]
    assert pipe.guide is not None
    with pytest.raises(ContextTooLong, match="the guide's context holds 512"):
        pipe.guide.request(QUESTION, images, 4)


def test_without_a_guide_nothing_runs(bundles: dict[str, Path]) -> None:
    pipe = vtp.load(bundles["large"])
    with pytest.raises(GuideMissing, match="--guide"):
        pipe.generate(picture(1), QUESTION)
    with pytest.raises(GuideMissing, match="needs a guide"):
        pipe.generate(picture(1), QUESTION, keep=1.0, exit_threshold=0.5)
    # Where nothing is dropped, and where there is nothing to drop, no guide is needed.
    assert pipe.generate(picture(1), QUESTION, keep=1.0, max_new_tokens=2).tokens
    assert pipe.generate(None, QUESTION, max_new_tokens=2).tokens


def test_a_bundle_that_is_no_guide(bundles: dict[str, Path]) -> None:
    with pytest.raises(GuideMissing, match="--method guide"):
        vtp.load(bundles["large"], guide=bundles["large"])


@pytest.mark.parametrize("threshold", [-0.1, float("nan"), "sure"])
def test_a_threshold_that_is_none(bundles: dict[str, Path], threshold: Any) -> None:
    pipe = vtp.load(bundles["large"], guide=bundles["guide"])
    with pytest.raises(SamplingInvalid, match="exit_threshold"):
        pipe.generate(picture(1), QUESTION, exit_threshold=threshold)


def test_a_guide_with_another_grid(bundles: dict[str, Path], guide_bundle: Path) -> None:
    with pytest.raises(GuideMismatch, match="patch grid"):
        vtp.load(bundles["large"], guide=guide_bundle)


@pytest.mark.parametrize(
    ("old", "new"), [('"yellow"', '"yelow"'), ('"type": "Lowercase"', '"type": "NFC"')]
)
def test_a_guide_with_another_tokenizer(
    bundles: dict[str, Path], copy_of: Callable[[Path], Path], old: str, new: str
) -> None:
    guide = copy_of(bundles["guide"])
    path = guide / "tokenizer.json"
    text = path.read_text()
    old = old if old in text else old.replace(": ", ":")
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(GuideMismatch, match=r"vocabulary|tokenizer"):
        vtp.load(bundles["large"], guide=guide, verify=False)


def test_the_images_are_read_once_for_both(bundles: dict[str, Path]) -> None:
    """What the guide takes is what `load_image` gives."""
    pipe = vtp.load(bundles["large"], guide=bundles["guide"])
    assert isinstance(pipe, LoadedBundle)
    assert pipe.guide is not None
    images = [load_image(picture(5), max_pixels=10**6)]
    guidance = pipe.guide.rank(pipe.guide.request(QUESTION, images, 4))
    assert guidance.consistency is None
    assert len(guidance.tokens) <= 4


def test_no_overlay_of_a_guides_answer(
    vtp: Any, bundles: dict[str, Path], scene: Path, tmp_path: Path
) -> None:
    arguments = ("run", bundles["large"], "--guide", bundles["guide"], "--image", scene)
    arguments += ("--prompt", "what?", "--save-overlay", tmp_path / "kept.png")
    early = vtp(*arguments, "--exit-threshold", "0")
    assert early.status == 0
    assert "its answer was returned" in early.err
    assert "no overlay" in early.err
    assert list(tmp_path.iterdir()) == []
    late = vtp(*arguments, "--max-new-tokens", "3")
    assert "[stage 1: layers 1..5 | 28 of 144 image tokens, dropped by guide" in late.err
    assert "the large model was asked" in late.err
    assert (tmp_path / "kept.png").is_file()


def test_json_tells_what_the_guide_did(vtp: Any, bundles: dict[str, Path], scene: Path) -> None:
    arguments = ("run", bundles["large"], "--guide", bundles["guide"], "--image", scene)
    outcome = vtp(*arguments, "--prompt", "what?", "--max-new-tokens", "3", "--format", "json")
    document = json.loads(outcome.out)
    assert document["guide"]["exited"] is False
    assert len(document["guide"]["scores"][0]) == TOKENS
    assert [stage["image_tokens"] for stage in document["stages"]] == [144, 28]
    assert len(document["stages"][1]["kept"][0]) == 28
