"""Tokenizers in the two forms that these models have, small enough to be trained here.

``llama``: SentencePiece's BPE as transformers converts it, spaces written as ``▁``, unknown
characters as bytes. ``bytes``: BPE over bytes (GPT-2's), as Qwen2 and Llama 3 have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

_SENTENCES = (
    "where is the red circle? it is at the top left.",
    "what number is shown in the picture? describe the image, please.",
    "What is in the picture? and here? how many things do you see?",
    "USER: ASSISTANT: user assistant system You are a helpful assistant.",
)
_PIECES = 96
"""Merges that are trained."""
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's words, and but for runs of digits Llama 3's."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A published tokenizer: how it splits text, and which tokens were added to it."""

    form: str
    """``llama`` or ``bytes``."""
    base: int
    """Tokens before the added ones."""
    added: Mapping[str, int]
    """Added tokens and their published ids; below ``base`` where the base reserves them."""
    plain: tuple[str, ...] = ()
    """Those of them that are not special."""
    bos: str | None
    eos: str
    pad: str
    unk: str | None = None
    leads: bool = False
    """Whether the tokenizer puts ``bos`` in front of every text."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Entries of tokenizer_config.json besides the tokens."""
    files: tuple[str, ...] = ()
    """``added_tokens.json`` and ``special_tokens_map.json``, where they lie there too."""

    def rows_behind(self, rows: int) -> int:
        """Rows of the published embedding table behind the base."""
        return rows - self.base

    def ids(self, base: int) -> dict[str, int]:
        """Ids of the added tokens where the base has so many tokens."""
        reserved = sorted((n, token) for token, n in self.added.items() if n < self.base)
        first = base - len(reserved)
        found = {token: first + rank for rank, (_, token) in enumerate(reserved)}
        own = {"<unk>": 0, "<s>": 1, "</s>": 2} if self.form == "llama" else {}
        behind = {t: base + n - self.base for t, n in self.added.items() if n >= self.base}
        return own | found | behind

    def write(self, base: int) -> dict[str, str]:
        """Files of the tokenizer -> their contents.

        Args:
            base: tokens before the added ones; what training does not fill is filled up.
        """
        ids = self.ids(base)
        names = {n: token for token, n in ids.items()}
        tokenizer = _trained(self.form)
        data = json.loads(tokenizer.to_str())
        vocab = dict(data["model"]["vocab"])
        if len(vocab) + len([n for n in names if n < base]) > base:
            raise ValueError(f"{base} tokens have no room for the {len(vocab)} that are trained")
        for number in range(len(vocab), base):
            if number not in names:
                vocab[f"[unused{number}]"] = number
        data["model"]["vocab"] = vocab
        data["added_tokens"] = [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": token not in self.plain,
            }
            for number, token in sorted(names.items())
        ]
        if self.leads and self.bos is not None:
            data["post_processor"] = _leading(self.bos, ids[self.bos])
        files = {"tokenizer.json": data, "tokenizer_config.json": self._config(names)}
        if "added_tokens.json" in self.files:
            files["added_tokens.json"] = {t: n for t, n in ids.items() if n >= base}
        if "special_tokens_map.json" in self.files:
            ends = {"bos_token": self.bos, "eos_token": self.eos, "pad_token": self.pad}
            files["special_tokens_map.json"] = {k: v for k, v in ends.items() if v is not None}
        return {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}

    def _config(self, names: Mapping[int, str]) -> dict[str, Any]:
        decoder = {
            str(number): {
                "content": token,
                "lstrip": False,
                "normalized": False,
                "rstrip": False,
                "single_word": False,
                "special": token not in self.plain,
            }
            for number, token in sorted(names.items())
        }
        return {
            "added_tokens_decoder": decoder,
            "bos_token": self.bos,
            "eos_token": self.eos,
            "pad_token": self.pad,
            "unk_token": self.unk,
            "clean_up_tokenization_spaces": False,
            **self.config,
        }


def _leading(token: str, number: int) -> dict[str, Any]:
    made = Tokenizer(models.BPE())
    made.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", pair=f"{token} $A {token}:1 $B:1", special_tokens=[(token, number)]
    )
    found: dict[str, Any] = json.loads(made.to_str())["post_processor"]
    return found


def _trained(form: str) -> Tokenizer:
    if form == "llama":
        return _sentencepiece()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    words = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=256 + _PIECES, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _sentencepiece() -> Tokenizer:
    learning = Tokenizer(models.BPE())
    learning.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = BpeTrainer(vocab_size=64 + _PIECES, show_progress=False, min_frequency=1)
    learning.train_from_iterator(_SENTENCES, trainer)
    learned = json.loads(learning.to_str())["model"]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += sorted(learned["vocab"], key=learned["vocab"].get)
    merges = [tuple(pair) for pair in learned["merges"]]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: number for number, piece in enumerate(pieces)},
            merges=merges,
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tokenizer
