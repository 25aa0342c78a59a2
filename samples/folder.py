"""The Hugging Face folder of a sample model: config, tokenizer, chat template, processor."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from .configs import CLIP_MEAN, CLIP_STD, SampleConfig
from .drawing import COLOURS, SHAPES

BOS, EOS, PAD, UNK, IMAGE = "<s>", "</s>", "<pad>", "<unk>", "<image>"
SPECIAL = (PAD, BOS, EOS, UNK, IMAGE)
MAX_POSITIONS = 2048

_WORDS = f"""
user assistant system : . , ? ! ' - 0 1 2 3 4 5 6 7 8 9 {" ".join(COLOURS)} {" ".join(SHAPES)}
shape shapes color colour colors colours number numbers digit digits thing things
top middle bottom left center centre right corner side
what which where how many is are there the a an do you see shown in of at on and or
picture image scene describe yes no not it this that count tell me please can
one two three four none to
"""

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}USER: {% else -%}ASSISTANT: {% endif -%}
{%- if message['content'] is string -%}
{{ message['content'] }}
{%- else -%}
{%- for part in message['content'] if part['type'] == 'image' -%}<image>{{ '\\n' }}{%- endfor -%}
{%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
{%- endif -%}
{%- if message['role'] == 'user' %} {% else %}</s>{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}ASSISTANT:{%- endif -%}
"""


def vocabulary() -> dict[str, int]:
    """Token -> id; special tokens first, then words in a fixed order."""
    return {token: index for index, token in enumerate(dict.fromkeys((*SPECIAL, *_WORDS.split())))}


def vocabulary_size() -> int:
    """Rows of the embedding: the vocabulary rounded up to a multiple of 16."""
    return -(-len(vocabulary()) // 16) * 16


def conversation(turns: list[tuple[str, str]]) -> str:
    """What `CHAT_TEMPLATE` makes of one picture and finished (question, answer) turns."""
    parts = [f"USER: {question} ASSISTANT: {answer}{EOS}" for question, answer in turns]
    return "".join(parts).replace("USER: ", f"USER: {IMAGE}\n", 1)


def build_tokenizer() -> Tokenizer:
    """Word-level tokenizer: lower case, punctuation and digits stand alone, <s> comes first."""
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary()[BOS])]
    )
    # Words with spaces between, none before punctuation, none between two digits.
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=True),
            decoders.Fuse(),
            decoders.Replace(Regex(r"(?<=\d) (?=\d)"), ""),
        ]
    )
    return tokenizer


def llava_config(config: SampleConfig) -> LlavaConfig:
    """The Hugging Face config of a sample model."""
    ids = vocabulary()
    ends = {"bos_token_id": ids[BOS], "eos_token_id": ids[EOS], "pad_token_id": ids[PAD]}
    vision = CLIPVisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=4 * config.vision_width,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
        projection_dim=config.vision_width,
        hidden_act="quick_gelu",
    )
    text = LlamaConfig(
        vocab_size=vocabulary_size(),
        hidden_size=config.text_width,
        intermediate_size=config.text_inner,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        num_key_value_heads=config.text_kv_heads,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_theta": 10_000.0, "rope_type": "default"},
        tie_word_embeddings=False,
        **ends,
    )
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=ids[IMAGE],
        image_seq_length=config.image_tokens,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=False,
        **ends,
    )


def new_model(config: SampleConfig) -> LlavaForConditionalGeneration:
    """A model with fresh weights, the same for every call with the same config."""
    torch.manual_seed(config.seed)
    return LlavaForConditionalGeneration(llava_config(config)).float()


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_processor(folder: Path, config: SampleConfig) -> None:
    image_processor: dict[str, object] = {
        "crop_size": {"height": config.image_size, "width": config.image_size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(CLIP_MEAN),
        "image_processor_type": "CLIPImageProcessor",
        "image_std": list(CLIP_STD),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"shortest_edge": config.image_size},
    }
    _write_json(folder / "preprocessor_config.json", image_processor)
    _write_json(
        folder / "processor_config.json",
        {
            "image_token": IMAGE,
            "num_additional_image_tokens": 1,
            "patch_size": config.patch_size,
            "processor_class": "LlavaProcessor",
            "vision_feature_select_strategy": "default",
        },
    )
    _write_json(
        folder / "tokenizer_config.json",
        {
            "add_bos_token": True,
            "bos_token": BOS,
            "clean_up_tokenization_spaces": False,
            "eos_token": EOS,
            "extra_special_tokens": {"image_token": IMAGE},
            "model_max_length": MAX_POSITIONS,
            "pad_token": PAD,
            "padding_side": "left",
            "processor_class": "LlavaProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": UNK,
        },
    )
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    build_tokenizer().save(str(folder / "tokenizer.json"))


def write_folder(model: LlavaForConditionalGeneration, config: SampleConfig, out: Path) -> None:
    """Write the model as float16 with tokenizer and processor; files appear whole, one by one."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".writing-") as name:
        folder = Path(name)
        half = LlavaForConditionalGeneration(llava_config(config))
        half.load_state_dict(model.state_dict())
        half.to(torch.float16).save_pretrained(folder)
        ids = vocabulary()
        GenerationConfig(
            bos_token_id=ids[BOS], eos_token_id=ids[EOS], pad_token_id=ids[PAD], do_sample=False
        ).save_pretrained(folder)
        _write_processor(folder, config)
        for path in sorted(folder.iterdir()):
            path.chmod(0o644)
            path.replace(out / path.name)
