"""The files of a random checkpoint beside its weights: tokenizer, chat template, processors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ..folder import BOS, CHAT_TEMPLATE, EOS, IMAGE, PAD, UNK, build_tokenizer, vocabulary
from .families import Published
from .sizes import Size

ENDS = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
"""Token ids of a configuration -> the sample tokenizer's tokens."""


def token_ids(published: Published, size: Size) -> dict[str, int]:
    """Ids of all tokens that have a meaning: the sample's words, and the family's special tokens
    at their published ids, or at the end of a vocabulary that is smaller."""
    words = [word for word in vocabulary() if word != IMAGE]
    ids = {word: vocabulary()[word] for word in words}
    special = dict(published.tokens)
    rows = size.text.vocab
    if max(special.values()) >= rows:
        special = {token: rows - len(special) + n for n, token in enumerate(special)}
    if max(ids.values()) >= min(special.values()):
        raise ValueError(f"a vocabulary of {rows} has no room for the sample's words")
    return {**ids, **special}


def make_tokenizer(published: Published, size: Size) -> Tokenizer:
    """The sample model's tokenizer with a token for every row of the embedding."""
    ids = token_ids(published, size)
    taken = set(ids.values())
    fillers = {f"<unused{n}>": n for n in range(size.text.vocab) if n not in taken}
    data = json.loads(build_tokenizer().to_str())
    entries = {token: n for token, n in ids.items() if token in (PAD, BOS, EOS, UNK)}
    entries |= {token: ids[token] for token in published.tokens}
    data["model"]["vocab"] = dict(sorted({**ids, **fillers}.items(), key=lambda item: item[1]))
    shape = next(iter(data["added_tokens"]))
    data["added_tokens"] = [
        {**shape, "id": n, "content": token}
        for token, n in sorted(entries.items(), key=lambda item: item[1])
    ]
    made: Tokenizer = Tokenizer.from_str(json.dumps(data))
    return made


def write_processors(folder: Path, published: Published, size: Size) -> None:
    """Write the tokenizer, its chat template and the image processor."""
    make_tokenizer(published, size).save(str(folder / "tokenizer.json"))
    marks = {f"token_{n}": token for n, token in enumerate(published.tokens)}
    _write(folder / "tokenizer_config.json", _tokenizer_config(size, marks))
    _write(folder / "preprocessor_config.json", published.images(size))
    _write(folder / "processor_config.json", {"processor_class": published.processor})
    (folder / "chat_template.jinja").write_text(_chat_template(published), encoding="utf-8")


def _chat_template(published: Published) -> str:
    """The sample model's, with the family's own words for pictures and videos."""
    image, video = (text.replace("\n", "{{ '\\n' }}") for text in (published.turn, published.video))
    lines = []
    for line in CHAT_TEMPLATE.splitlines(keepends=True):
        if "<image>" not in line:
            lines.append(line)
            continue
        own = line.replace("<image>{{ '\\n' }}", "WORDS")
        lines.append(own.replace("WORDS", image))
        if video:
            lines.append(own.replace("'image'", "'video'").replace("WORDS", video))
    return "".join(lines)


def _tokenizer_config(size: Size, marks: Mapping[str, str]) -> dict[str, Any]:
    return {
        "add_bos_token": True,
        "bos_token": BOS,
        "clean_up_tokenization_spaces": False,
        "eos_token": EOS,
        "extra_special_tokens": dict(marks),
        "model_max_length": size.text.context,
        "pad_token": PAD,
        "padding_side": "left",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNK,
    }


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
