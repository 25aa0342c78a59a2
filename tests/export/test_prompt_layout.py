"""Chat templates taken apart, against transformers rendering them whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoTokenizer

from vtp.errors import EmptyPrompt, ImageCountMismatch, ModelNotSupported, OneTurnOnly
from vtp.export.source.presets import TINY
from vtp.export.source.prompt_layout import prompt_layout
from vtp.runtime.bundle.prompt import PromptLayout
from vtp.samples.hub import templates

_LOOP = "{% for m in messages %}"
_IMAGES = "{% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
_TEXTS = "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}"

TEMPLATES = {
    "vicuna": (
        _LOOP
        + "{{ m['role'].upper() + ': ' }}"
        + _IMAGES
        + _TEXTS
        + "{{ ' ' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "vicuna with a system text": (
        "A chat between a curious user and an assistant. "
        + _LOOP
        + "{% if m['role'] == 'user' %}USER: "
        + _IMAGES
        + _TEXTS
        + " ASSISTANT:{% else %} "
        + _TEXTS
        + "</s>{% endif %}{% endfor %}"
    ),
    "mistral": (
        _LOOP
        + "{% if m['role'] == 'user' %}[INST] "
        + _IMAGES
        + _TEXTS
        + " [/INST]{% else %} "
        + _TEXTS
        + "</s>{% endif %}{% endfor %}"
    ),
    "chatml": (
        "<|im_start|>system\nAnswer the questions.<|im_end|>"
        + _LOOP
        + "<|im_start|>{{ m['role'] + '\n' }}"
        + _IMAGES
        + _TEXTS
        + "<|im_end|>{% endfor %}"
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
}

Render = Callable[[list[dict[str, Any]]], str]


def renderer(template: str) -> Render:
    tokenizer = AutoTokenizer.from_pretrained(TINY)

    def render(messages: list[dict[str, Any]]) -> str:
        text: str = tokenizer.apply_chat_template(
            messages, chat_template=template, add_generation_prompt=True, tokenize=False
        )
        return text

    return render


def user(text: str, images: int = 0) -> dict[str, Any]:
    content = [{"type": "image"}] * images + [{"type": "text", "text": text}]
    return {"role": "user", "content": content}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("images", [0, 1, 3])
def test_the_first_turn_is_what_the_template_renders(name: str, images: int) -> None:
    render = renderer(TEMPLATES[name])
    layout = prompt_layout(render, "<image>", 4)
    assert layout.render_turn("What is it?", images, first=True) == render(
        [user("What is it?", images)]
    )


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("images", [0, 2])
def test_later_turns_continue_the_answer_as_the_template_does(name: str, images: int) -> None:
    render = renderer(TEMPLATES[name])
    layout = prompt_layout(render, "<image>", 4)
    turns = [user("One?", 1), assistant("First."), user("Two?"), assistant("Second.")]
    whole = render([*turns, user("Three?", images)])
    _, _, continued = whole.partition("Second.")
    assert layout.render_turn("Three?", images, first=False) == continued


def test_a_template_that_rewrites_the_text_is_refused() -> None:
    render = renderer(TEMPLATES["mistral"].replace("c['text']", "c['text'].lower()"))
    with pytest.raises(ModelNotSupported, match="changes the text"):
        prompt_layout(render, "<image>", 4)


def test_a_template_with_images_after_the_question_is_refused() -> None:
    render = renderer(TEMPLATES["mistral"].replace(_IMAGES + _TEXTS, _TEXTS + _IMAGES))
    with pytest.raises(ModelNotSupported, match="right before the question"):
        prompt_layout(render, "<image>", 4)


def test_a_template_of_the_decoder_alone_is_refused() -> None:
    render = renderer(TEMPLATES["mistral"].replace(_IMAGES, ""))
    with pytest.raises(
        ModelNotSupported, match=r"does not write '<image>'.*not those of its decoder"
    ):
        prompt_layout(render, "<image>", 4)


@pytest.fixture(scope="module")
def layout() -> PromptLayout:
    return prompt_layout(renderer(TEMPLATES["vicuna"]), "<image>", 4)


@pytest.mark.parametrize("mark", ["<image>", "<image>\n", "{image}"])
def test_images_go_where_the_question_says_laid_out_as_in_front(
    layout: PromptLayout, mark: str
) -> None:
    turn = layout.render_turn(f"compare {mark} with {mark}", 2, first=True)
    assert turn == "USER: compare <image>\n with <image>\n ASSISTANT:"
    leading = layout.render_turn(f"{mark}What is it?", 1, first=True)
    assert leading == layout.render_turn("What is it?", 1, first=True)


@pytest.mark.parametrize(("question", "images"), [("<image> what?", 0), ("<image> what?", 2)])
def test_places_and_images_must_agree(layout: PromptLayout, question: str, images: int) -> None:
    with pytest.raises(ImageCountMismatch, match=r"\{image\}"):
        layout.render_turn(question, images, first=True)


@pytest.mark.parametrize("question", ["", "  \n", "<image>"])
def test_an_empty_question_is_refused(layout: PromptLayout, question: str) -> None:
    with pytest.raises(EmptyPrompt):
        layout.render_turn(question, question.count("<image>"), first=True)


HUB = {
    "llava": templates.LLAVA,
    "mistral": templates.MISTRAL,
    "llama3": templates.LLAMA3,
    "onevision": templates.ONEVISION,
    "internvl": templates.INTERNVL.replace("<IMG_CONTEXT>", "<image>"),
    "qwen": templates.QWEN.replace("<|image_pad|>", "<image>"),
}


@pytest.mark.parametrize("name", HUB)
@pytest.mark.parametrize("images", [0, 1, 3])
def test_a_published_template_is_rendered_as_it_is(name: str, images: int) -> None:
    render = renderer(HUB[name])
    layout = prompt_layout(render, "<image>", 4)
    first = layout.render_turn("One?", images, first=True)
    assert first == render([user("One?", images)])
    turns = [user("One?", images), assistant("First."), user("Two?", 1), assistant("Second.")]
    whole = render([*turns, user("Three?", images)])
    asked = layout.answered if layout.answered is not None else layout.user_close
    # What a conversation is made of: questions, the opening of their answers, answers, joins.
    text = first.removesuffix(layout.user_close)
    for answer, question, count in (("First.", "Two?", 1), ("Second.", "Three?", images)):
        later = layout.render_turn(question, count, first=False)
        text += asked + answer + later.removesuffix(layout.user_close)
    # The space before an answer may be the answer's own.
    assert (text + layout.user_close).replace(" ", "") == whole.replace(" ", "")


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% if messages|length > 1 %}{{ raise_exception('once') }}{% endif %}", "does not render"),
        ("{% if messages|length > 1 %}AGAIN {% endif %}", "changes earlier turns"),
        ("{% if messages|length > 3 %}{{ messages[9].x.y }}{% endif %}", "does not render"),
    ],
)
def test_a_template_of_one_turn_is_taken_and_says_so_at_the_second(template: str, why: str) -> None:
    def render(messages: list[dict[str, Any]]) -> str:
        try:
            return renderer(template + TEMPLATES["chatml"])(messages)
        except Exception as error:
            raise ModelNotSupported(
                f"a chat template that does not render ({error})", []
            ) from error

    layout = prompt_layout(render, "<image>", 4)
    assert layout.render_turn("What?", 1, first=True) == render([user("What?", 1)])
    with pytest.raises(OneTurnOnly, match=why):
        layout.render_turn("And?", 0, first=False)


def test_the_name_of_an_image_is_one_in_every_model() -> None:
    layout = prompt_layout(renderer(HUB["qwen"]), "<image>", 4)
    whole = "<|vision_start|><image><|vision_end|>"
    for mark in ("{image}", "<image>", whole):
        turn = layout.render_turn(f"look at {mark} what?", 1, first=True)
        assert f"look at {whole} what?" in turn
        assert turn.count("<|vision_start|>") == 1
