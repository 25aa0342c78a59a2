"""Image first, prompt second, in all four calls; the other order is an error that says so."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vtp
from vtp.errors import ArgumentsSwapped, EmptyPrompt, ImageUnreadable, PromptError

QUESTION = "what number is shown?"
CALLS = ("generate", "stream", "chat.ask", "chat.stream")


@pytest.fixture(params=CALLS)
def call(request: pytest.FixtureRequest, shared_pipeline: vtp.Pipeline) -> Callable[..., Any]:
    """One of the four ways to ask."""
    owner, _, name = request.param.rpartition(".")
    return getattr(shared_pipeline.chat() if owner else shared_pipeline, name)  # type: ignore[no-any-return]


def tokens(outcome: Any) -> tuple[int, ...]:
    return (outcome if isinstance(outcome, vtp.Result) else outcome.finish()).tokens


def test_image_first_prompt_second(
    call: Callable[..., Any], shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    right = shared_pipeline.generate(scene, QUESTION).tokens
    assert tokens(call(scene, QUESTION)) == right


def test_named_in_any_order(
    call: Callable[..., Any], shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    right = shared_pipeline.generate(scene, QUESTION).tokens
    assert tokens(call(prompt=QUESTION, image=scene)) == right


def test_a_question_without_an_image(
    call: Callable[..., Any], shared_pipeline: vtp.Pipeline
) -> None:
    right = shared_pipeline.generate(None, "what is blue?", max_new_tokens=3).tokens
    assert tokens(call(None, "what is blue?", max_new_tokens=3)) == right
    # As conversations were asked before.
    assert tokens(call("what is blue?", None, max_new_tokens=3)) == right


def test_a_conversation_takes_the_question_alone(shared_pipeline: vtp.Pipeline) -> None:
    right = shared_pipeline.generate(None, "what is blue?", max_new_tokens=3).tokens
    assert shared_pipeline.chat().ask("what is blue?", max_new_tokens=3).tokens == right
    assert shared_pipeline.chat().ask(prompt="what is blue?", max_new_tokens=3).tokens == right


def images(scene: Path) -> dict[str, Any]:
    """Everything that can be an image or a video."""
    array = np.zeros((8, 8, 3), np.uint8)
    return {
        "path": scene,
        "bytes": scene.read_bytes(),
        "file": io.BytesIO(scene.read_bytes()),
        "pillow": Image.new("RGB", (8, 8)),
        "array": array,
        "video": vtp.Video([array]),
        "list": [scene, scene],
        "text path": str(scene),
    }


@pytest.mark.parametrize("kind", [*images(Path(__file__))])
def test_the_other_order_is_told(call: Callable[..., Any], scene: Path, kind: str) -> None:
    with pytest.raises(ArgumentsSwapped, match="the image first and the prompt second") as caught:
        call(QUESTION, images(scene)[kind])
    assert isinstance(caught.value, PromptError)
    assert isinstance(caught.value, TypeError)
    assert len(str(caught.value)) < 400  # no array, no bytes


def test_the_other_order_with_several_texts(call: Callable[..., Any], scene: Path) -> None:
    with pytest.raises(ArgumentsSwapped):
        call([QUESTION], str(scene))


def test_an_image_that_does_not_exist_is_unreadable(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes").write_text("a file that is no image")
    for prompt in (QUESTION, "notes", "nowhere.png", "x" * 5000, "a\0b"):
        with pytest.raises(ImageUnreadable, match="there is no such file"):
            call("missing.png", prompt)


def test_two_images_that_exist_are_taken_as_they_stand(
    call: Callable[..., Any], scene: Path
) -> None:
    assert tokens(call(str(scene), str(scene), max_new_tokens=2))


def test_an_image_without_a_question(call: Callable[..., Any], scene: Path) -> None:
    for image in (scene, str(scene), [scene], None):
        with pytest.raises(EmptyPrompt):
            call(image, None)


@pytest.mark.parametrize("prompt", [3, 1.5, object()])
def test_a_prompt_that_is_no_text(call: Callable[..., Any], prompt: Any) -> None:
    with pytest.raises(ArgumentsSwapped, match=f"the prompt is a {type(prompt).__name__}"):
        call(None, prompt)
