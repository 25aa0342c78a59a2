"""What a conversation holds between two turns, and the lock that its users take."""

from __future__ import annotations

from dataclasses import dataclass
from threading import RLock

from ...errors import AlreadyClosed
from ..model.cache import KVCache, Place
from ..model.decoder import DecodeLoop


@dataclass(frozen=True)
class QuestionEnd:
    """The end of a question: what stands after it is read again with the next turn."""

    place: Place
    """Of the cache."""
    before: str
    """Text of the turn up to there."""
    rest: str
    """The remainder of the question."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """A conversation after its first turn, as a request finds it."""

    conversation: object
    """Which one."""
    turns: int
    """How many it had."""
    answer: tuple[int, ...]
    """Tokens of its last answer, as far as they were generated."""
    pending: tuple[int, ...]
    """The last of them, which is not in the cache yet; none if it was an end token."""
    place: Place
    """Where its cache stands."""
    capacities: tuple[int, ...]
    """Rows of its cache, stage by stage."""
    question_end: QuestionEnd | None
    """Set for a model that reads answers again (``PromptLayout.answered``)."""


class Conversation:
    """State that a ``Chat`` and its answers share: KV cache, last answer, decode loop.

    Whoever reads or changes it holds ``lock``. Answers keep no engine memory of their own, so that
    ``close`` releases all of it.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self.cache: KVCache | None = None
        self.loop: DecodeLoop | None = None
        """Of the answer that is being generated."""
        self.turns = 0
        self.answer: list[int] = []
        """As ``Past.answer``."""
        self.pending: list[int] = []
        """As ``Past.pending``."""
        self.question_end: QuestionEnd | None = None
        self.read: set[int] = set()
        """Tokens so far, but for the last answer."""
        self.closed = False
        self._key = object()

    def past(self) -> Past | None:
        """As it stands now; None before the first turn."""
        if self.cache is None:
            return None
        return Past(
            conversation=self._key,
            turns=self.turns,
            answer=tuple(self.answer),
            pending=tuple(self.pending),
            place=self.cache.place(),
            capacities=tuple(stage.capacity for stage in self.cache.stages),
            question_end=self.question_end,
        )

    def check_open(self) -> None:
        """Refuse what comes after ``close``.

        Raises:
            AlreadyClosed: it has been closed.
        """
        if self.closed:
            raise AlreadyClosed("conversation")

    def close(self) -> None:
        """Release the cache and what generates; waits for a step that is running."""
        with self.lock:
            self.closed = True
            self.cache = self.loop = None
