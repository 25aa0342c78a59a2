"""From a question with images and videos to text with places for their tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import EmptyPrompt, ImageCountMismatch, VideoNotSupported


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

    ``opening`` ``user_open`` (``image_open`` per image) question ``user_close`` answer
    ``turn_join`` ``user_open`` ... : found at export by rendering the template itself.
    """

    opening: str
    """Before the first turn: a system text, often empty."""
    user_open: str
    """Before each question."""
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
    video: VideoLayout | None = None
    """None: the model takes no video."""

    @property
    def placeholders(self) -> list[int]:
        """Ids of the tokens that image embeddings replace."""
        of_video = self.video.token_id if self.video is not None else None
        return [self.image_token_id] + ([] if of_video is None else [of_video])

    def render_turn(
        self, question: str, images: int | Sequence[str], first: bool, frames: Sequence[int] = ()
    ) -> str:
        """The text that is added to the conversation by one question.

        Where the question itself holds image or video tokens, they go there, in the order given;
        else they go in front.

        Args:
            question: as asked.
            images: how many, or ``image`` or ``video`` for each.
            first: whether it opens the conversation.
            frames: of each video, how many frames it has; for models that name every frame.

        Raises:
            EmptyPrompt: the question is blank.
            ImageCountMismatch: tokens in the question, and images and videos, differ.
            VideoNotSupported: a video, and the model takes none.
        """
        kinds = ["image"] * images if isinstance(images, int) else list(images)
        tokens = {"image": self.image_token}
        opens = {"image": self.image_open}
        if self.video is not None:
            tokens["video"], opens["video"] = self.video.token, self.video.open
        elif "video" in kinds:
            raise VideoNotSupported()
        either = "|".join(map(re.escape, tokens.values()))
        found = [
            kind for text in re.findall(either, question) for kind in tokens if tokens[kind] == text
        ]
        if found and found != kinds:
            named = " or ".join(tokens.values())
            raise ImageCountMismatch(len(found), len(kinds), named)
        if not re.sub(either, "", question).strip():
            raise EmptyPrompt()
        lead = self.opening if first else self.turn_join
        pictures = "" if found else "".join(opens[kind] for kind in kinds)
        return lead + self._expanded(
            self.user_open + pictures + question + self.user_close, either, frames
        )

    def _expanded(self, text: str, either: str, frames: Sequence[int]) -> str:
        """Tokens as users write them -> the texts that stand for them."""
        counts = iter(frames)

        def written(token: re.Match[str]) -> str:
            if self.video is not None and token[0] == self.video.token:
                if self.video.frame is None:
                    return token[0]
                named = (self.video.frame.format(number=1 + n) for n in range(next(counts)))
                return "\n".join(named)
            return self.image_text or token[0]

        return re.sub(either, written, text)
