"""Find out how a model's chat template lays out a prompt, by rendering it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.bundle.prompt import PromptLayout

Render = Callable[[list[dict[str, Any]]], str]

_FIRST, _ANSWER, _SECOND, _AGAIN = "QUESTION-ONE", "ANSWER-ONE", "QUESTION-TWO", "ANSWER-TWO"
_LEFT = "a chat template that"


def prompt_layout(render: Render, image_token: str, image_token_id: int) -> PromptLayout:
    """Take a chat template apart.

    A template whose first turn can be rendered is taken. Where later turns are laid out otherwise
    than that one promised, the layout says so.

    Args:
        render: the template with the generation prompt added.
        image_token: text of the token that stands for an image.
        image_token_id: its id.

    Raises:
        ModelNotSupported: the template does more than put pieces around the texts.
    """
    before, close = _split(render([_user(0, _FIRST)]), _FIRST)
    image_open, text_open = _image_pieces(render, before, image_token)
    head = before.removesuffix(text_open)
    layout = PromptLayout(
        opening="",
        user_open=head,
        image_open=image_open,
        text_open=text_open,
        user_close=close,
        turn_join="",
        image_token=image_token,
        image_token_id=image_token_id,
    )
    try:
        return _with_turns(layout, render)
    except ModelNotSupported as error:
        problem = str(error).partition(" is not supported")[0]
        return replace(layout, one_turn=f"has {problem}")


def _with_turns(layout: PromptLayout, render: Render) -> PromptLayout:
    """The layout with what stands between turns.

    Raises:
        ModelNotSupported: a second turn does not begin as the first one went on.
    """
    question = layout.user_open + layout.text_open + _FIRST
    turns = [_user(0, _FIRST), _message("assistant", _ANSWER), _user(0, _SECOND)]
    asked, rest = _split(render(turns), _ANSWER)
    if not asked.startswith(question):
        raise ModelNotSupported(f"{_LEFT} changes earlier turns", ["one form for all turns"])
    between, close = _split(rest, _SECOND)
    third = [*turns, _message("assistant", _AGAIN), _user(0, _FIRST)]
    _, later = _split(render(third), _SECOND)
    answered = asked[len(question) :]
    if close != layout.user_close or later != answered + _AGAIN + between + _FIRST + close:
        raise ModelNotSupported(f"{_LEFT} lays out turns differently", ["one form for all turns"])
    if not between.endswith(layout.text_open):
        raise ModelNotSupported(f"{_LEFT} opens turns differently", ["one form for all turns"])
    lead = between[: len(between) - len(layout.text_open)]
    user_open = _common_end(layout.user_open, lead)
    return replace(
        layout,
        opening=layout.user_open.removesuffix(user_open),
        user_open=user_open,
        turn_join=lead.removesuffix(user_open),
        answered=None if answered.rstrip(" ") == layout.user_close.rstrip(" ") else answered,
    )


def _image_pieces(render: Render, before: str, image_token: str) -> tuple[str, str]:
    """What stands for an image, and what between images and question.

    Raises:
        ModelNotSupported: images are elsewhere than in front of the question.
    """
    with_image, _ = _split(render([_user(1, _FIRST)]), _FIRST)
    with_two, _ = _split(render([_user(2, _FIRST)]), _FIRST)
    if render([_user(1, _FIRST)]).count(image_token) == 0:
        raise ModelNotSupported(
            f"{_LEFT} does not write {image_token!r}, the image token of config.json and the "
            "tokenizer, for an image",
            ["template and tokenizer of the whole model, not those of its decoder"],
        )
    for length in range(len(_common_end(before, with_image)) + 1):
        head, text_open = before[: len(before) - length], before[len(before) - length :]
        image_open = with_image[len(head) : len(with_image) - length]
        if (
            image_open.count(image_token) == 1
            and with_image == head + image_open + text_open
            and with_two == head + 2 * image_open + text_open
        ):
            return image_open, text_open
    raise ModelNotSupported(
        f"{_LEFT} does not put {image_token!r} right before the question",
        ["images at the start of the user's turn"],
    )


def video_open(render: Render, token: str, text_open: str) -> str:
    """What a chat template writes for a video before the question.

    Args:
        render: as for ``prompt_layout``.
        token: the video token.
        text_open: as found for images.

    Raises:
        ModelNotSupported: it does not put the video token there.
    """
    turn = _message("user", _FIRST)
    with_video = {**turn, "content": [{"type": "video"}, *turn["content"]]}
    before, _ = _split(render([turn]), _FIRST)
    shown, _ = _split(render([with_video]), _FIRST)
    head = before.removesuffix(text_open)
    fits = shown.startswith(head) and shown.endswith(text_open) and shown.count(token) == 1
    if not fits or len(shown) < len(before):
        raise ModelNotSupported(
            f"{_LEFT} does not put {token!r} right before the question",
            ["videos at the start of the user's turn"],
        )
    return shown[len(head) : len(shown) - len(text_open)]


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _user(images: int, text: str) -> dict[str, Any]:
    turn = _message("user", text)
    return {**turn, "content": [{"type": "image"}] * images + turn["content"]}


def _split(text: str, marker: str) -> tuple[str, str]:
    before, found, after = text.partition(marker)
    if not found:
        raise ModelNotSupported(f"{_LEFT} changes the text", ["templates that do not change texts"])
    return before, after


def _common_end(a: str, b: str) -> str:
    length = 0
    while length < min(len(a), len(b)) and a[-1 - length] == b[-1 - length]:
        length += 1
    return a[len(a) - length :]
