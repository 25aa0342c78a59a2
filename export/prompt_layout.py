"""Find out how a model's chat template lays out a prompt, by rendering it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ModelNotSupported
from ..runtime.prompt import PromptLayout

_FIRST, _ANSWER, _SECOND = "QUESTION-ONE", "ANSWER-ONE", "QUESTION-TWO"
_LEFT = "a chat template that"


def prompt_layout(
    render: Callable[[list[dict[str, Any]]], str], image_token: str, image_token_id: int
) -> PromptLayout:
    """Take a chat template apart.

    Args:
        render: the template with the generation prompt added.
        image_token: text of the token that stands for an image.
        image_token_id: its id.

    Raises:
        ModelNotSupported: the template does more than put pieces around the texts.
    """
    before, close = _split(render([_user(0, _FIRST)]), _FIRST)
    rendered = render([_user(0, _FIRST), _says("assistant", _ANSWER), _user(0, _SECOND)])
    head, rest = _split(rendered, _ANSWER)
    between, close_again = _split(rest, _SECOND)
    if not head.startswith(before + _FIRST + close) or close_again != close:
        raise ModelNotSupported(f"{_LEFT} lays out turns differently", ["one form for all turns"])
    user_open = _common_end(before, between)
    with_image, _ = _split(render([_user(1, _FIRST)]), _FIRST)
    with_two, _ = _split(render([_user(2, _FIRST)]), _FIRST)
    image_open = with_image[len(before) :]
    if (
        with_image != before + image_open
        or image_open.count(image_token) != 1
        or with_two != before + 2 * image_open
    ):
        raise ModelNotSupported(
            f"{_LEFT} does not put {image_token!r} right before the question",
            ["images at the start of the user's turn"],
        )
    return PromptLayout(
        opening=before.removesuffix(user_open),
        user_open=user_open,
        image_open=image_open,
        user_close=close,
        turn_join=between.removesuffix(user_open),
        image_token=image_token,
        image_token_id=image_token_id,
    )


def video_open(render: Callable[[list[dict[str, Any]]], str], token: str) -> str:
    """What a chat template writes for a video before the question.

    Raises:
        ModelNotSupported: it does not put the video token there.
    """
    turn = _says("user", _FIRST)
    with_video = {**turn, "content": [{"type": "video"}, *turn["content"]]}
    before, _ = _split(render([turn]), _FIRST)
    shown, _ = _split(render([with_video]), _FIRST)
    if not shown.startswith(before) or shown.count(token) != 1:
        raise ModelNotSupported(
            f"{_LEFT} does not put {token!r} right before the question",
            ["videos at the start of the user's turn"],
        )
    return shown[len(before) :]


def _says(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def _user(images: int, text: str) -> dict[str, Any]:
    turn = _says("user", text)
    return {**turn, "content": [{"type": "image"}] * images + turn["content"]}


def _split(text: str, marker: str) -> tuple[str, str]:
    before, found, after = text.partition(marker)
    if not found:
        raise ModelNotSupported(f"{_LEFT} changes the text", ["templates that keep texts as is"])
    return before, after


def _common_end(a: str, b: str) -> str:
    length = 0
    while length < min(len(a), len(b)) and a[-1 - length] == b[-1 - length]:
        length += 1
    return a[len(a) - length :]
