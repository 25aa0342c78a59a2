"""Token ids from text and back, by the model's own tokenizer."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from ...errors import BundleCorrupted


class Text:
    """The tokenizer of a bundle.

    Args:
        path: ``tokenizer.json``.

    Raises:
        BundleCorrupted: the file is no tokenizer.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleCorrupted(path.name, f"cannot be read ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def encode(self, text: str) -> list[int]:
        """Ids of the start of a conversation, with the tokens that the model wants in front."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def encode_more(self, before: str, text: str) -> list[int]:
        """Ids of ``text`` where ``before`` stands in front of it.

        Both are encoded together, because a tokenizer may join or prefix pieces at the border;
        what begins before the border is left out.
        """
        encoding = self._tokenizer.encode(before + text, add_special_tokens=False)
        return [
            token
            for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
            if start >= len(before)
        ]

    def tail(self, text: str, boundary: int, begins: bool) -> tuple[int, int]:
        """The last tokens of a text.

        Args:
            text: as it was encoded.
            boundary: a place in it.
            begins: whether ``encode`` encoded it, rather than ``encode_more``.

        Returns:
            How many tokens reach behind the boundary, and where the first of them begins: at the
            boundary, or before it where a token lies across.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=begins)
        starts = [start for start, end in encoding.offsets if end > boundary]
        return len(starts), min(starts, default=boundary)

    def decode(self, tokens: list[int]) -> str:
        """Text of ids, special tokens left out."""
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()

    def vocabulary(self) -> dict[str, int]:
        """Every token with its id."""
        words: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return words

    def stream(self) -> TextStream:
        """A decoder for ids that come one by one."""
        return TextStream(self._tokenizer)


class TextStream:
    """Turns ids into text as soon as they make whole characters.

    Ids are decoded together with those of the piece before, because a tokenizer may write a token
    otherwise at the start of a text; bytes that make no character come as replacement characters.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._before: list[int] = []
        """Ids whose text was given out last."""
        self._waiting: list[int] = []
        """Ids whose text was not."""
        self._begun = False

    def step(self, token: int) -> str:
        """The text that this token completes; empty if none."""
        self._waiting.append(token)
        piece = self._piece()
        if not piece or piece.endswith("\N{REPLACEMENT CHARACTER}"):
            return ""
        return self._emit(piece)

    def flush(self) -> str:
        """What is left at the end, a broken character too."""
        return self._emit(self._piece())

    def _piece(self) -> str:
        before = self._decode(self._before)
        return self._decode(self._before + self._waiting)[len(before) :]

    def _emit(self, piece: str) -> str:
        self._before, self._waiting = self._waiting, []
        if not self._begun:
            piece = piece.lstrip()
        self._begun = self._begun or bool(piece)
        return piece

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text
