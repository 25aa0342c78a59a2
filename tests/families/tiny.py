"""How the small models are made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoTokenizer

from vtp.export.source.presets import TINY

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    # Wide enough that greedy choices do not hang on rounding.
    "initializer_range": 0.2,
}
VIDEO_LLAVA = "VideoLlavaImageProcessor"
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "initializer_range": 0.2,
}
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}USER: "
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}IMAGE\n"
    "{% elif c['type'] == 'video' %}VIDEO\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n"
    "{% else %}ASSISTANT: {% for c in m['content'] %}{{ c['text'] }}{% endfor %}\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


class Words:
    """The sample model's tokenizer, with a family's special tokens added."""

    def __init__(self, *special: str) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(TINY)
        self.tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
        self.size = len(self.tokenizer)
        self.eos = self.tokenizer.eos_token_id

    def id(self, token: str) -> int:
        """Its number."""
        found = self.tokenizer.convert_tokens_to_ids(token)
        assert isinstance(found, int)
        return found

    def text(self, kind: type, **more: Any) -> Any:
        """The configuration of a decoder."""
        settings = {**TEXT, "vocab_size": self.size, "eos_token_id": self.eos, "bos_token_id": None}
        return kind(**{**settings, "pad_token_id": self.eos, **more})


def template(image: str, video: str = "<video>") -> str:
    """A chat template of the form that most of these models have."""
    return TEMPLATE.replace("IMAGE", image).replace("VIDEO", video)


def save(
    folder: Path, model: Any, words: Words, image: Any, video: Any = None, chat: str = ""
) -> None:
    """Write a model folder in the form of the hub."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # What is all ones or zeros when made would hide mistakes.
            if parameter.ndim <= 1 or "position_embedding" in name or "newline" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.generation_config = transformers.GenerationConfig(eos_token_id=words.eos)
    model.save_pretrained(folder)
    words.tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(chat)
    image.save_pretrained(folder)
    if video is not None:
        (folder / "video_preprocessor_config.json").write_text(json.dumps(video))


def llava_next(folder: Path, decoder: str = "LlamaConfig", layout: str = "") -> None:
    words = Words("<image>")
    config = transformers.LlavaNextConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, image_size=32, patch_size=8),
        text_config=words.text(
            getattr(transformers, decoder), num_hidden_layers=3, **_whole(decoder)
        ),
        image_token_index=words.id("<image>"),
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64], [96, 32], [32, 96]],
        image_seq_length=16,
    )
    image = transformers.LlavaNextImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=config.image_grid_pinpoints,
    )
    model = transformers.LlavaNextForConditionalGeneration(config)
    save(folder, model, words, image, chat=template("<image>"))


def video_llava(folder: Path) -> None:
    words = Words("<image>", "<video>")
    config = transformers.VideoLlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**VISION, image_size=32, patch_size=8),
        text_config=words.text(transformers.LlamaConfig),
        image_token_index=words.id("<image>"),
        video_token_index=words.id("<video>"),
        image_seq_length=16,
        video_seq_length=8 * 17,
    )
    image = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    model = transformers.VideoLlavaForConditionalGeneration(config)
    save(folder, model, words, image, chat=template("<image>"))
    # The type that the hub's folder names; its class needs torchvision.
    path = folder / "preprocessor_config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"image_processor_type": VIDEO_LLAVA})
    )


def llava_onevision(folder: Path) -> None:
    words = Words("<image>", "<video>")
    pinpoints = [[32 * rows, 32 * columns] for rows in range(1, 7) for columns in range(1, 7)]
    config = transformers.LlavaOnevisionConfig(
        vision_config=transformers.SiglipVisionConfig(
            **VISION, image_size=32, patch_size=8, vision_use_head=False
        ),
        text_config=words.text(transformers.Qwen2Config, use_sliding_window=False),
        image_token_index=words.id("<image>"),
        video_token_index=words.id("<video>"),
        image_grid_pinpoints=pinpoints,
        tie_word_embeddings=False,
    )
    image = transformers.LlavaOnevisionImageProcessorPil(
        size={"height": 32, "width": 32}, image_grid_pinpoints=pinpoints
    )
    model = transformers.LlavaOnevisionForConditionalGeneration(config)
    video = {
        "size": {"height": 32, "width": 32},
        "video_processor_type": "LlavaOnevisionVideoProcessor",
    }
    save(folder, model, words, image, video, chat=template("<image>"))


def internvl(folder: Path, norm: str = "layer_norm") -> None:
    words = Words("<img>", "</img>", "<IMG_CONTEXT>")
    config = transformers.InternVLConfig(
        vision_config=transformers.InternVLVisionConfig(
            **VISION,
            image_size=[32, 32],
            patch_size=[4, 4],
            norm_type=norm,
            use_qk_norm=norm == "rms_norm",
            use_mean_pooling=norm == "layer_norm",
        ),
        text_config=words.text(transformers.Qwen2Config, use_sliding_window=False),
        image_token_id=words.id("<IMG_CONTEXT>"),
        image_seq_length=16,
        tie_word_embeddings=False,
    )
    image = transformers.GotOcr2ImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, min_patches=1, max_patches=6
    )
    model = transformers.InternVLForConditionalGeneration(config)
    save(folder, model, words, image, chat=template("<IMG_CONTEXT>"))


def _whole(decoder: str) -> dict[str, Any]:
    return {"sliding_window": None} if decoder == "MistralConfig" else {}


QWEN_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""That of Qwen2-VL-2B-Instruct, without the option to number pictures."""


def qwen(folder: Path, windows: bool) -> None:
    marks = [f"<|{name}|>" for name in ("im_start", "im_end", "vision_start", "vision_end")]
    words = Words(*marks, "<|image_pad|>", "<|video_pad|>")
    words.eos = words.id("<|im_end|>")
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    kinds = {
        False: ("Qwen2VLConfig", "Qwen2VLTextConfig", "Qwen2VLForConditionalGeneration"),
        True: ("Qwen2_5_VLConfig", "Qwen2_5_VLTextConfig", "Qwen2_5_VLForConditionalGeneration"),
    }
    config_class, text_class, model_class = (getattr(transformers, name) for name in kinds[windows])
    # The width of the tower is called embed_dim in one and hidden_size in the other.
    tower = {"embed_dim": 32, "hidden_size": TEXT["hidden_size"], "mlp_ratio": 2}
    if windows:
        tower = {
            "hidden_size": 32,
            "out_hidden_size": TEXT["hidden_size"],
            "intermediate_size": 48,
            "window_size": 16,
            "fullatt_block_indexes": [1, 2],
        }
    config = config_class(
        vision_config={**tower, "depth": 4, "num_heads": 2, "patch_size": 4},
        text_config=words.text(text_class, num_hidden_layers=3, rope_parameters=rope).to_dict(),
        image_token_id=words.id("<|image_pad|>"),
        video_token_id=words.id("<|video_pad|>"),
        vision_start_token_id=words.id("<|vision_start|>"),
        vision_end_token_id=words.id("<|vision_end|>"),
    )
    config.vision_config.initializer_range = 0.2
    image = transformers.Qwen2VLImageProcessorPil(
        patch_size=4, size={"shortest_edge": 8 * 64, "longest_edge": 48 * 64}
    )
    save(folder, model_class(config), words, image, chat=QWEN_TEMPLATE)
    # As on the hub, the end of a turn or of the text ends an answer.
    eos = [words.eos, words.id("<|im_start|>")]
    transformers.GenerationConfig(eos_token_id=eos).save_pretrained(folder)


MODELS: dict[str, Callable[[Path], None]] = {
    "llava_next": llava_next,
    "video_llava": video_llava,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "internvl-6b": lambda folder: internvl(folder, "rms_norm"),
    "llava_next-mistral": lambda folder: llava_next(folder, "MistralConfig"),
    "qwen2_vl": lambda folder: qwen(folder, windows=False),
    "qwen2_5_vl": lambda folder: qwen(folder, windows=True),
}


def make(name: str, folder: Path) -> None:
    """Write the model called ``name`` to ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        MODELS[name](folder)
