"""A call that comes too late, or whose arguments do not fit together."""

from __future__ import annotations

from .base import VtpError


class ConversationError(VtpError):
    """Something about how a pipeline, a conversation or an answer is used."""


class AlreadyClosed(ConversationError, RuntimeError):
    """Use of a pipeline or conversation after ``close``."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the {what} has been closed and its memory released: make a new one "
            f"({'vtp.load' if what == 'pipeline' else 'pipeline.chat'})"
        )


class AnswerOutdated(ConversationError, RuntimeError):
    """More text of an answer whose conversation has gone on to another turn."""

    def __init__(self) -> None:
        super().__init__(
            "this answer cannot go on: its conversation was asked something else meanwhile and "
            "continues from there; read the whole answer before the next question (ask), or use "
            "one conversation (pipeline.chat()) for each thread"
        )


class RequestOutdated(ConversationError, RuntimeError):
    """A request that was made for another pipeline, or at another point of the conversation."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this request cannot be run here: {reason}; make it anew (request)")


class SettingRepeated(ConversationError, TypeError):
    """One setting in two places of one call."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was given twice, as {name}=... and in settings=...: give it once")
