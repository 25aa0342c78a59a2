"""Stage 2: projector and decoder learn to answer from cached features of the frozen tower.

Most steps see only a part of the image tokens, in compact positions, so that the answers do not
hang on a token's index.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from ..configs import SampleConfig
from ..folder import build_tokenizer
from ..scenes import questions
from .dataset import TrainingScenes, training_scene
from .optimisers import Optimisers, load_checkpoint, save_checkpoint, split_matrices
from .packing import Packed, pack
from .selection import kept_count, select
from .tower_stage import pixel_values, run_tower

_MODES = {"all": 0.15, "cls": 0.65, "random": 0.1, "uniform": 0.1}
"""Selection -> share of the steps."""

_LOWEST_KEEP, _HIGHEST_KEEP = 0.04, 0.6
_DESCRIBE_SHARE = 0.5
_SECOND_TURN_SHARE = 0.25


@torch.inference_mode()
def encode(tower: CLIPVisionModel, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (batch, patches, width) float16 and scores (batch, patches) float32."""
    hidden, row = run_tower(tower, pixel_values(images))
    return hidden[:, 1:].to(torch.float16).numpy(), row.float().numpy()


def cached_features(
    config: SampleConfig, tower: CLIPVisionModel, scenes: TrainingScenes, work: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Features and scores of the scenes of stage 2, mapped from disk; made on the first call."""
    n, done = config.language_scenes, work / "features.done"
    paths = work / "features.npy", work / "scores.npy"
    if not done.exists():
        shape = (n, config.image_tokens, config.vision_width)
        features = np.lib.format.open_memmap(paths[0], "w+", np.float16, shape)
        scores = np.lib.format.open_memmap(paths[1], "w+", np.float32, shape[:2])
        for start in range(0, n, 100):
            stop = min(start + 100, n)
            with torch.autocast("cpu", torch.bfloat16):
                features[start:stop], scores[start:stop] = encode(tower, scenes.images[start:stop])
            if start % 5_000 == 0:
                print(f"features: {start} of {n}", file=sys.stderr, flush=True)
        features.flush()
        scores.flush()
        done.touch()
    return np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")


def answer_logits(
    model: LlavaForConditionalGeneration, features: torch.Tensor, packed: Packed
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (answer tokens, vocabulary) float32 and the wanted ids, for kept features."""
    llava = model.model
    embed = llava.language_model.embed_tokens
    image = llava.multi_modal_projector(features)
    front = embed(packed.prefix).expand(len(features), -1, -1)
    inputs = torch.cat([front, image, embed(packed.ids)], 1)
    hidden = llava.language_model(
        inputs_embeds=inputs,
        attention_mask=packed.mask,
        position_ids=packed.positions,
        use_cache=False,
    ).last_hidden_state
    asked = packed.labels >= 0
    after = hidden[:, -packed.ids.shape[1] :]
    return model.lm_head(after[asked]).float(), packed.labels[asked]


def _conversations(
    config: SampleConfig, index: int, rng: np.random.Generator
) -> list[list[tuple[str, str]]]:
    """Conversations about training scene `index`: single questions, some of them two by two."""
    made = questions(training_scene(config, index), rng)
    asked = [(q, a) for kind, q, a in made if kind != "describe" or rng.random() < _DESCRIBE_SHARE]
    order = [asked[i] for i in rng.permutation(len(asked))]
    turns: list[list[tuple[str, str]]] = []
    for pair in order:
        if turns and len(turns[-1]) == 1 and rng.random() < _SECOND_TURN_SHARE:
            turns[-1].append(pair)
        else:
            turns.append([pair])
    return turns


def _draw_selection(mode: str, scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if mode == "all":
        return select("uniform", scores, scores.shape[1], rng)
    keep = float(np.exp(rng.uniform(np.log(_LOWEST_KEEP), np.log(_HIGHEST_KEEP))))
    return select(mode, scores, kept_count(scores.shape[1], keep), rng)


def language_batch(
    config: SampleConfig,
    tokenizer: Tokenizer,
    features: np.ndarray,
    scores: np.ndarray,
    step: int,
) -> tuple[str, torch.Tensor, Packed]:
    """The batch of one step: selection name, kept features float32, tokens."""
    rng = np.random.default_rng([config.seed, 3, step])
    mode = str(rng.choice(list(_MODES), p=list(_MODES.values())))
    # Steps with all tokens cost three times the others: half the pictures do.
    size = config.language_batch // 2 if mode == "all" else config.language_batch
    picked = np.sort(rng.choice(len(features), size, replace=False))
    kept = _draw_selection(mode, np.asarray(scores[picked]), rng)
    taken = np.take_along_axis(np.asarray(features[picked]), kept[:, :, None], axis=1)
    talks = [_conversations(config, int(index), rng) for index in picked]
    return mode, torch.from_numpy(taken.astype(np.float32)), pack(tokenizer, talks, kept.shape[1])


def train_language(
    config: SampleConfig,
    model: LlavaForConditionalGeneration,
    features: np.ndarray,
    scores: np.ndarray,
    work: Path,
) -> None:
    """Train projector, decoder and head in place; resumes from `work/language.pt`."""
    torch.manual_seed(config.seed + 1)
    llava = model.model
    modules: dict[str, nn.Module] = {
        "projector": llava.multi_modal_projector,
        "decoder": llava.language_model,
        "head": model.lm_head,
    }
    matrices, others = split_matrices(llava.language_model.layers, *modules.values())
    optimisers = Optimisers(matrices, others, steps=config.language_steps)
    path = work / "language.pt"
    first = load_checkpoint(path, modules, optimisers)
    tokenizer = build_tokenizer()
    began = time.perf_counter()
    recent: dict[str, list[float]] = {}
    for step in range(first, config.language_steps):
        mode, taken, packed = language_batch(config, tokenizer, features, scores, step)
        with torch.autocast("cpu", torch.bfloat16):
            logits, wanted = answer_logits(model, taken, packed)
            shares = packed.shares[packed.labels >= 0]
            each = F.cross_entropy(logits, wanted, reduction="none")
            loss = (each * shares).sum() / shares.sum()
        loss.backward()
        optimisers.step(step)
        recent.setdefault(mode, []).append(loss.item())
        if (step + 1) % 50 == 0:
            means = " ".join(f"{name} {np.mean(v):.3f}" for name, v in sorted(recent.items()))
            seconds = (time.perf_counter() - began) / (step + 1 - first)
            print(
                f"language {step + 1}/{config.language_steps} loss by selection: {means}"
                f" {seconds:.2f} s/step",
                file=sys.stderr,
                flush=True,
            )
            recent.clear()
        if (step + 1) % 100 == 0 or step + 1 == config.language_steps:
            save_checkpoint(path, step + 1, modules, optimisers)
