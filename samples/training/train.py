"""Train a sample model from scratch:
`python -m vtp.samples.training.train --config tiny --out FOLDER`.

Draws the training scenes, trains the tower, then projector and decoder on its frozen features,
writes the Hugging Face folder and prints an accuracy table. After an interruption, the same command
resumes from its work folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

from ..configs import CONFIGS, SampleConfig
from ..folder import new_model, write_folder
from ..scenes import evaluation_set
from .accuracy import as_markdown, measure
from .dataset import training_scenes
from .language_stage import cached_features, train_language
from .tower_stage import train_tower

KEEPS = (1.0, 0.5, 0.25, 0.1, 0.05)


def latest_model(config: SampleConfig, work: Path) -> LlavaForConditionalGeneration:
    """The model with whatever weights the checkpoints of the work folder hold."""
    model = new_model(config)
    llava = model.model
    parts = {
        "tower": llava.vision_tower,
        "projector": llava.multi_modal_projector,
        "decoder": llava.language_model,
        "head": model.lm_head,
    }
    if config.tower is not None:
        load_tower(config.tower, parts["tower"])
    for name in ("tower.pt", "language.pt"):
        if (work / name).exists():
            saved = torch.load(work / name, weights_only=True)
            for part, state in saved["modules"].items():
                if part in parts:
                    parts[part].load_state_dict(state)
    return model


def load_tower(name: str, tower: CLIPVisionModel) -> None:
    """Give `tower` the weights of the sample model in the folder `name` beside this file."""
    trained = LlavaForConditionalGeneration.from_pretrained(
        Path(__file__).parents[1] / name, dtype=torch.float32
    )
    tower.load_state_dict(trained.model.vision_tower.state_dict())


def shortened(config: SampleConfig, scenes: int | None, steps: int | None) -> SampleConfig:
    """The config with at most so many scenes, and steps of each stage; None: as many as it has."""
    most_scenes = config.scenes if scenes is None else scenes
    most_steps = max(config.tower_steps, config.language_steps) if steps is None else steps
    return replace(
        config,
        scenes=min(config.scenes, most_scenes),
        language_scenes=min(config.language_scenes, most_scenes),
        tower_steps=min(config.tower_steps, most_steps),
        language_steps=min(config.language_steps, most_steps),
    )


def make(config: SampleConfig, out: Path, work: Path) -> LlavaForConditionalGeneration:
    """Run what is missing of all stages and write the folder."""
    work.mkdir(parents=True, exist_ok=True)
    scenes = training_scenes(config, work)
    model = new_model(config)
    tower = model.model.vision_tower
    began = time.perf_counter()
    if config.tower is None:
        train_tower(config, tower, scenes, work)
    else:
        load_tower(config.tower, tower)
    print(f"stage 1: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    tower.eval().requires_grad_(False)
    began = time.perf_counter()
    features, scores = cached_features(config, tower, scenes, work)
    print(f"features: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    began = time.perf_counter()
    train_language(config, model, features, scores, work)
    print(f"stage 2: {time.perf_counter() - began:.0f} s", file=sys.stderr)
    write_folder(model, config, out)
    return model


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m vtp.samples.training.train", description=__doc__
    )
    parser.add_argument("--config", choices=sorted(CONFIGS), default="tiny")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument(
        "--count", type=int, default=1_400, help="number of questions for the final accuracy"
    )
    parser.add_argument(
        "--scenes", type=int, help="maximum number of training scenes, for a trial run"
    )
    parser.add_argument(
        "--steps", type=int, help="maximum number of steps per stage, for a trial run"
    )
    parser.add_argument(
        "--latest",
        action="store_true",
        help="do not train: write and evaluate the existing checkpoint",
    )
    options = parser.parse_args(arguments)
    config = shortened(CONFIGS[options.config], options.scenes, options.steps)
    if options.latest:
        model = latest_model(config, options.work)
        write_folder(model, config, options.out)
    else:
        model = make(config, options.out, options.work)
    samples = list(evaluation_set(options.count))
    print(as_markdown(measure(model.eval(), samples, KEEPS)))


if __name__ == "__main__":
    main()
