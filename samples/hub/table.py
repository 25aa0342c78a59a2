"""The repositories behind ``vtp list presets``, one row each, and others of their families."""

from __future__ import annotations

from typing import Any

from . import configs, keys, processors, templates
from .repository import Repository
from .tokens import Tokens

_LLAMA_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "add_prefix_space": None,
    "extra_special_tokens": {"image_token": "<image>"},
    "image_token": "<image>",
    "legacy": False,
    "model_max_length": 1000000000000000019884624838656,
    "padding_side": "left",
    "processor_class": "LlavaProcessor",
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
    "trust_remote_code": False,
    "use_default_system_prompt": False,
}
_MAPS = ("added_tokens.json", "special_tokens_map.json")
_BOTH = ("chat_template.json", "chat_template.jinja")


def _llama(pad: str, added: dict[str, int], owner: str) -> Tokens:
    return Tokens(
        form="llama",
        base=32000,
        added=added,
        bos="<s>",
        eos="</s>",
        pad=pad,
        unk="<unk>",
        leads=True,
        config={**_LLAMA_CONFIG, "processor_class": owner},
        files=_MAPS,
    )


_QWEN2_ADDED = {
    token: 151643 + place
    for place, token in enumerate(
        (
            *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>"),
            *("<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>"),
            *("<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
            *("<|image_pad|>", "<|video_pad|>"),
        )
    )
}
_QWEN25_PLAIN = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"),
)
_QWEN25_ADDED = _QWEN2_ADDED | {token: 151657 + place for place, token in enumerate(_QWEN25_PLAIN)}
_QWEN_CONFIG: dict[str, Any] = {
    "add_prefix_space": False,
    "additional_special_tokens": [token for token in _QWEN2_ADDED if token != "<|endoftext|>"],
    "errors": "replace",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
}


def _qwen(added: dict[str, int], plain: tuple[str, ...] = (), **config: object) -> Tokens:
    return Tokens(
        form="bytes",
        base=151643,
        added=added,
        plain=plain,
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        config={**_QWEN_CONFIG, **config},
    )


_INTERNVL_MARKS = (
    *("<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>"),
    *("</box>", "<video>"),
)
_INTERNVL_NAMES = {
    "context_image_token": "<IMG_CONTEXT>",
    "end_image_token": "</img>",
    "start_image_token": "<img>",
    "video_token": "<video>",
}
_INTERNVL_TOKENS = _qwen(
    _QWEN25_ADDED | {token: 151665 + place for place, token in enumerate(_INTERNVL_MARKS)},
    _QWEN25_PLAIN,
    additional_special_tokens=[*_QWEN_CONFIG["additional_special_tokens"], *_INTERNVL_MARKS[:-1]],
    extra_special_tokens=_INTERNVL_NAMES,
    model_max_length=8192,
    return_token_type_ids=False,
    **_INTERNVL_NAMES,
)
_ONEVISION_TOKENS = _qwen(
    {
        "<|endoftext|>": 151643,
        "<|im_start|>": 151644,
        "<|im_end|>": 151645,
        "<image>": 151646,
        "<video>": 151647,
    },
    additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    model_max_length=32768,
    processor_class="LlavaOnevisionProcessor",
)
_LLAMA3_TOKENS = Tokens(
    form="bytes",
    base=128256,
    added={
        "<|begin_of_text|>": 128000,
        "<|end_of_text|>": 128001,
        "<|start_header_id|>": 128006,
        "<|end_header_id|>": 128007,
        "<|eot_id|>": 128009,
        "<image>": 128256,
        "<pad>": 128257,
    },
    bos="<|begin_of_text|>",
    eos="<|eot_id|>",
    pad="<pad>",
    leads=True,
    config={
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "left",
        "processor_class": "LlavaNextProcessor",
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
    files=("special_tokens_map.json",),
)


def _ends(version: str, bos: str | None, eos: str, pad: str | None = None) -> dict[str, object]:
    """generation_config.json that says where texts end and no more."""
    ends = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
    named = {key: token for key, token in ends.items() if token is not None}
    return {"_from_model_config": True, **named, "transformers_version": version}


_IMAGE_PAD = {"<image>": 32000, "<pad>": 32001}
_QWEN2_VL_GENERATION = {
    "bos_token_id": "<|endoftext|>",
    "pad_token_id": "<|endoftext|>",
    "do_sample": True,
    "eos_token_id": ["<|im_end|>", "<|endoftext|>"],
    "repetition_penalty": 1.0,
    "temperature": 0.01,
    "top_p": 0.001,
    "top_k": 1,
    "transformers_version": "4.37.0",
}
_QWEN2_5_VL_GENERATION = {
    "bos_token_id": "<|endoftext|>",
    "pad_token_id": "<|endoftext|>",
    "do_sample": True,
    "eos_token_id": ["<|im_end|>", "<|endoftext|>"],
    "repetition_penalty": 1.05,
    "temperature": 0.000001,
    "transformers_version": "4.49.0",
}


def _llava15(size: str, base: str, shards: int, read: str) -> Repository:
    return Repository(
        family="llava",
        size=size,
        config=configs.llava15(base),
        generation=_ends("4.36.0.dev0", "<s>", "</s>", "<pad>"),
        processors=processors.llava15,
        template=templates.LLAVA,
        template_files=_BOTH,
        tokens=_llama("<pad>", _IMAGE_PAD, "LlavaProcessor"),
        keys=keys.llava,
        shards=shards,
        dtype="float16",
        read=read,
    )


def _vicuna_next(size: str, base: str, shards: int, read: str, **text: object) -> Repository:
    return Repository(
        family="llava_next",
        size=size,
        config=configs.llava_next(configs.vicuna_text(base, **text)),
        generation=_ends("4.39.0.dev0", "<s>", "</s>"),
        processors=processors.llava_next,
        template=templates.LLAVA,
        template_files=("chat_template.json",),
        tokens=_llama("<unk>", {"<image>": 32000}, "LlavaNextProcessor"),
        keys=keys.llava,
        shards=shards,
        dtype="float16",
        read=read,
    )


def _onevision(size: str, base: str, shards: int, stored_head: bool, read: str) -> Repository:
    return Repository(
        family="llava_onevision",
        size=size,
        config=configs.onevision(base),
        generation=_ends("4.45.0.dev0", "<|endoftext|>", "<|im_end|>"),
        processors=processors.onevision,
        template=templates.ONEVISION,
        template_files=("chat_template.json",),
        tokens=_ONEVISION_TOKENS,
        keys=keys.llava,
        stored_head=stored_head,
        shards=shards,
        dtype="float16",
        read=read,
    )


def _internvl(size: str, shards: int, read: str) -> Repository:
    return Repository(
        family="internvl",
        size=size,
        config=configs.internvl3,
        generation=_ends("4.52.0.dev0", "<|endoftext|>", "<|im_end|>"),
        processors=processors.internvl3,
        template=templates.INTERNVL,
        template_files=("chat_template.jinja",),
        tokens=_INTERNVL_TOKENS,
        keys=keys.internvl,
        shards=shards,
        dtype="bfloat16",
        read=read,
    )


def _qwen2_vl(size: str, shards: int, stored_head: bool, read: str) -> Repository:
    return Repository(
        family="qwen2_vl",
        size=size,
        config=configs.qwen2_vl(),
        generation=dict(_QWEN2_VL_GENERATION),
        processors=processors.qwen("Qwen2VLProcessor"),
        template=templates.QWEN,
        template_files=("chat_template.json", "tokenizer_config.json"),
        tokens=_qwen(_QWEN2_ADDED, model_max_length=32768, padding_side="left"),
        keys=keys.qwen,
        stored_head=stored_head,
        shards=shards,
        dtype="bfloat16",
        read=read,
    )


def _qwen2_5_vl(size: str, windows: int, shards: int, stored_head: bool, read: str) -> Repository:
    return Repository(
        family="qwen2_5_vl",
        size=size,
        config=configs.qwen2_5_vl(windows),
        generation=dict(_QWEN2_5_VL_GENERATION),
        processors=processors.qwen("Qwen2_5_VLProcessor"),
        template=templates.QWEN,
        template_files=("chat_template.json", "tokenizer_config.json"),
        tokens=_qwen(_QWEN25_ADDED, _QWEN25_PLAIN, add_bos_token=False, model_max_length=131072),
        keys=keys.qwen,
        stored_head=stored_head,
        shards=shards,
        dtype="bfloat16",
        read=read,
    )


REPOSITORIES: dict[str, Repository] = {
    "llava-hf/llava-1.5-7b-hf": _llava15(
        "7b", "lmsys/vicuna-7b-v1.5", 3, "every file, in a public copy of the folder"
    ),
    "llava-hf/llava-1.5-13b-hf": _llava15(
        "13b",
        "lmsys/vicuna-13b-v1.5",
        6,
        "the conversion script of transformers 4.36, and the 7B; shards by its rule",
    ),
    "llava-hf/llava-v1.6-vicuna-7b-hf": _vicuna_next(
        "7b",
        "lmsys/vicuna-7b-v1.5",
        3,
        "the conversion script of transformers 4.39, the 13B's config.json; the rest inferred",
    ),
    "llava-hf/llava-v1.6-vicuna-13b-hf": _vicuna_next(
        "13b",
        "lmsys/vicuna-13b-v1.5",
        6,
        "most of config.json, as quoted in an issue; the conversion script; the rest inferred",
        max_length=4096,
    ),
    "llava-hf/llava-v1.6-mistral-7b-hf": Repository(
        family="llava_next",
        size="mistral-7b",
        config=configs.llava_next(configs.mistral_text),
        generation=_ends("4.39.0.dev0", "<s>", "</s>"),
        processors=processors.llava_next,
        template=templates.MISTRAL,
        template_files=_BOTH,
        tokens=_llama("<pad>", _IMAGE_PAD, "LlavaNextProcessor"),
        keys=keys.llava,
        shards=4,
        dtype="float16",
        read="config.json in the tests of another project, the processor as printed, the template "
        "in two projects; generation_config.json and shards inferred",
    ),
    "llava-hf/llama3-llava-next-8b-hf": Repository(
        family="llava_next",
        size="llama3-8b",
        config=configs.llava_next(configs.llama3_text, tie_word_embeddings=False),
        generation=_ends("4.44.0.dev0", "<|begin_of_text|>", "<|eot_id|>"),
        processors=processors.llava_next,
        template=templates.LLAMA3,
        template_files=("chat_template.json",),
        tokens=_LLAMA3_TOKENS,
        keys=keys.llava,
        shards=4,
        dtype="float16",
        read="the template in three projects, the conversion script of transformers 4.45; "
        "config.json inferred from it",
    ),
    "LanguageBind/Video-LLaVA-7B-hf": Repository(
        family="video_llava",
        size="7b",
        config=configs.video_llava,
        generation=_ends("4.41.0.dev0", "<s>", "</s>", "<pad>"),
        processors=processors.video_llava,
        template=templates.VIDEO_LLAVA,
        template_files=("chat_template.json",),
        tokens=_llama(
            "<pad>", {"<image>": 32000, "<video>": 32001, "<pad>": 32002}, "VideoLlavaProcessor"
        ),
        keys=keys.llava,
        shards=3,
        dtype="float16",
        read="the conversion script of transformers 4.42; template and processor_config.json from "
        "memory of its prompt",
    ),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": _onevision(
        "0.5b",
        "Qwen/Qwen2-0.5B-Instruct",
        1,
        False,
        "six files, equal to published sha256 sums; names of tensors by the size of the weights; "
        "config.json by the conversion script",
    ),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": _onevision(
        "7b",
        "Qwen/Qwen2-7B-Instruct",
        4,
        True,
        "values in another project's code, the 0.5B's files, the conversion script",
    ),
    "OpenGVLab/InternVL3-1B-hf": _internvl(
        "1b", 1, "every file but the processor's, in a public copy; names of tensors by the size"
    ),
    "OpenGVLab/InternVL3-2B-hf": _internvl("3-2b", 1, "its JSON files in a public copy"),
    "OpenGVLab/InternVL3-8B-hf": _internvl(
        "3-8b", 4, "its JSON files in a public copy; shards inferred"
    ),
    "Qwen/Qwen2-VL-2B-Instruct": _qwen2_vl(
        "2b", 2, False, "config.json and tokenizer as quoted; shards and tensors by their sizes"
    ),
    "Qwen/Qwen2-VL-7B-Instruct": _qwen2_vl(
        "7b", 5, True, "config.json as quoted in another project; generation from memory"
    ),
    "Qwen/Qwen2.5-VL-3B-Instruct": _qwen2_5_vl(
        "3b", 70, 2, False, "its JSON files in a public copy"
    ),
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen2_5_vl(
        "7b", 28, 5, True, "its JSON files in a public copy; shards by their sizes"
    ),
}
"""Repository -> its form."""
