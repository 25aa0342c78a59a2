"""From a question with images and videos to text with places for their tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...errors import EmptyPrompt, ImageCountMismatch, OneTurnOnly, VideoNotSupported
from ..preprocessing.base import Cell

NAMES = {"image": "{image}", "video": "{video}"}
"""What stands for an image or a video in the questions of every model, besides its own token."""


@dataclass(frozen=True)
class Pieces:
    """What the images and videos of a turn are cut into, on which the texts around them depend."""

    frames: tuple[int, ...] = ()
    """Of each video, how many frames it has."""
    tiles: tuple[tuple[Cell | None, ...], ...] = ()
    """Of each image, where its tiles lie; None is a tile that shows the whole image."""


IN_ONE_PIECE = Pieces()
"""Of images in one piece."""


@dataclass(frozen=True, kw_only=True)
class TileLayout:
    """How the tiles of an image stand in a prompt, of models with text between them."""

    tile: str
    """Stands for a tile, the image token in it; ``{row}`` and ``{column}`` are numbers from 1."""
    row_end: str = ""
    """After the last tile of each row."""
    overview: str
    """Stands for a tile that shows the whole image, the image token in it."""

    def text(self, cells: Sequence[Cell | None]) -> str:
        """What stands for an image with these tiles."""
        found = []
        for cell, following in zip(cells, (*cells[1:], None), strict=True):
            if cell is None:
                found.append(self.overview)
                continue
            row, column = (str(number + 1) for number in cell)
            found.append(self.tile.replace("{row}", row).replace("{column}", column))
            if following is None or following[0] != cell[0]:
                found.append(self.row_end)
        return "".join(found)


@dataclass(frozen=True, kw_only=True)
class VideoLayout:
    """How a video stands in a prompt."""

    open: str
    """Stands for one video, the token in it."""
    token: str
    """The video token, as a user writes it."""
    token_id: int | None
    """Its id; None where it never comes to that, as with ``frame``."""
    frame: str | None = None
    """Of models that name every frame: the text of one, ``{number}`` (from 1) and the image token
    in it; frames are joined by line ends and stand where the token stood."""


@dataclass(frozen=True, kw_only=True)
class PromptLayout:
    """How the model's chat template lays out a conversation, as plain text pieces.

    ``opening`` ``user_open`` (``image_open`` per image) ``text_open`` question ``user_close``
    answer ``turn_join`` ``user_open`` ... : found at export by rendering the template itself.
    """

    opening: str
    """Before the first turn: a system text, often empty."""
    user_open: str
    """Before the images of each turn."""
    image_open: str
    """Stands for one image, the image token in it."""
    user_close: str
    """After each question; the model answers from here."""
    turn_join: str
    """Between an answer and the next turn."""
    image_token: str
    """The image token, as a user writes it."""
    image_token_id: int
    image_text: str | None = None
    """What stands for it in the text that is tokenized, the token in it; None: itself."""
    tiles: TileLayout | None = None
    """Instead: what stands for each of its tiles; None: they follow each other without text."""
    video: VideoLayout | None = None
    """None: the model takes no video."""
    text_open: str = ""
    """Between the images and the question."""
    answered: str | None = None
    """Stands between question and answer of a turn that is over, where that is not ``user_close``:
    then the answer is read again with the next turn."""
    one_turn: str | None = None
    """Why there can be no second turn; None: there can."""

    @property
    def placeholders(self) -> list[int]:
        """Ids of the tokens that image embeddings replace."""
        of_video = self.video.token_id if self.video is not None else None
        return [self.image_token_id] + ([] if of_video is None else [of_video])

    def render_turn(
        self,
        question: str,
        images: int | Sequence[str],
        first: bool,
        pieces: Pieces = IN_ONE_PIECE,
    ) -> str:
        """The text that is added to the conversation by one question, as it is tokenized.

        Arguments and errors as for ``lay_out``.

        Args:
            question: as asked.
            images: how many, or ``image`` or ``video`` for each.
            first: whether it opens the conversation.
            pieces: as for ``expand``.
        """
        return self.expand(self.lay_out(question, images, first), pieces)

    def lay_out(self, question: str, images: int | Sequence[str], first: bool) -> str:
        """That text with image and video tokens as the chat template writes them.

        Where the question itself holds image or video tokens, or ``{image}`` and ``{video}``, they
        go there, in the order given, laid out as in front; else they go in front.

        Args:
            question: as asked.
            images: how many, or ``image`` or ``video`` for each.
            first: whether it opens the conversation.

        Raises:
            EmptyPrompt: the question is blank.
            ImageCountMismatch: tokens in the question, and images and videos, differ.
            VideoNotSupported: a video, and the model takes none.
            OneTurnOnly: a second turn, of a model that knows none.
        """
        if not first and self.one_turn is not None:
            raise OneTurnOnly(self.one_turn)
        kinds = ["image"] * images if isinstance(images, int) else list(images)
        opens = {"image": self.image_open}
        if self.video is not None:
            opens["video"] = self.video.open
        elif "video" in kinds:
            raise VideoNotSupported()
        marks = dict(self._marks())
        either = "|".join(map(re.escape, sorted(marks, key=len, reverse=True)))
        found = [marks[text] for text in re.findall(either, question)]
        if found and found != kinds:
            raise ImageCountMismatch(len(found), len(kinds), " or ".join(NAMES[k] for k in opens))
        if not re.sub(either, "", question).strip():
            raise EmptyPrompt()
        lead = self.opening if first else self.turn_join
        pictures = "" if found else "".join(opens[kind] for kind in kinds)
        placed = re.sub(either, lambda mark: opens[marks[mark[0]]], question)
        return lead + self.user_open + pictures + self.text_open + placed + self.user_close

    def _marks(self) -> Iterator[tuple[str, str]]:
        """What a user may write for an image or a video: its name, its token, or the whole of what
        the template writes."""
        yield NAMES["image"], "image"
        for text in (self.image_token, self.image_open, self.image_open.strip()):
            yield text, "image"
            yield text.replace(self.image_token, self.image_text or self.image_token), "image"
        if self.video is not None:
            yield NAMES["video"], "video"
            for text in (self.video.token, self.video.open, self.video.open.strip()):
                yield text, "video"

    def expand(self, text: str, pieces: Pieces) -> str:
        """Tokens as the template writes them -> the texts that stand for them.

        Args:
            text: as from ``lay_out``.
            pieces: of the images and videos that they stand for, in their order.
        """
        frames, tiles = iter(pieces.frames), iter(pieces.tiles)
        frame = self.video.frame if self.video is not None else None

        def replaced(token: re.Match[str]) -> str:
            if token[0] == self.image_token:
                if self.tiles is not None:
                    return self.tiles.text(next(tiles))
                return self.image_text or self.image_token
            assert frame is not None
            return "\n".join(frame.replace("{number}", f"{1 + n}") for n in range(next(frames)))

        tokens = [self.image_token]
        if frame is not None and self.video is not None:
            tokens.append(self.video.token)
        return re.sub("|".join(map(re.escape, tokens)), replaced, text)
