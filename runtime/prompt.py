"""From a question with images to token ids with places for image tokens."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import EmptyPrompt, ImageCountMismatch


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

    def render_turn(self, question: str, images: int, first: bool) -> str:
        """The text that is added to the conversation by one question.

        Where the question itself holds image tokens, images go there; else they go in front.

        Raises:
            EmptyPrompt: the question is blank.
            ImageCountMismatch: image tokens in the question and images differ in number.
        """
        places = question.count(self.image_token)
        if places not in (0, images):
            raise ImageCountMismatch(places, images, self.image_token)
        if not question.replace(self.image_token, "").strip():
            raise EmptyPrompt()
        lead = self.opening if first else self.turn_join
        pictures = "" if places else self.image_open * images
        asked = self.user_open + pictures + question + self.user_close
        if self.image_text is not None:
            asked = asked.replace(self.image_token, self.image_text)
        return lead + asked
