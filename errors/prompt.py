"""A request that a model cannot answer."""

from __future__ import annotations

from .base import VtpError


class PromptError(VtpError):
    """Something about the prompt."""


class ArgumentsSwapped(PromptError, TypeError):
    """An image where the prompt stands, most often because the two are in the other order."""

    def __init__(self, prompt: object) -> None:
        shown = repr(prompt) if isinstance(prompt, str) else f"a {type(prompt).__name__}"
        super().__init__(
            f"the prompt is {shown}, which is no question but an image or another object: give "
            'the image first and the prompt second, as in generate("scene.png", "what is it?"), '
            "or name them (image=..., prompt=...)"
        )


class ImageCountMismatch(PromptError, ValueError):
    """The prompt's image places and the images given differ in number."""

    def __init__(self, places: int, images: int, marker: str) -> None:
        super().__init__(
            f"the prompt has {places} place(s) for images or videos ({marker}), but {images} "
            "image(s) or video(s) were given: give one of the right kind for each place, in "
            "order, or remove the places (images and videos then go before the text)"
        )


class OneTurnOnly(PromptError, ValueError):
    """A second turn with a model whose chat template cannot lay one out."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"this model can answer only one question per conversation, because it {why}: start a "
            "new conversation for every question (generate, stream, vtp run)"
        )


class EmptyPrompt(PromptError, ValueError):
    """A prompt without text."""

    def __init__(self) -> None:
        super().__init__("the prompt is empty: give a question or an instruction")


class ContextTooLong(PromptError, ValueError):
    """More tokens than the model or the cache can hold."""

    def __init__(self, needed: int, limit: int, what: str) -> None:
        super().__init__(
            f"{needed} tokens are needed (image + text + new tokens), but {what} holds "
            f"{limit}: lower keep or max_new_tokens, shorten the prompt, or give fewer images"
        )


class SamplingInvalid(VtpError, ValueError):
    """A sampling setting outside its range."""

    def __init__(self, name: str, value: object, accepted: str) -> None:
        super().__init__(f"{name} {value!r} is not accepted: give {accepted}")
