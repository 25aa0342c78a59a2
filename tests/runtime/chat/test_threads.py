"""Threads that share a pipeline, a conversation or an answer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from typing import Any

import pytest
from PIL import Image

import vtp
from vtp.errors import AlreadyClosed, AnswerOutdated

from .conftest import Runs

QUESTIONS = ("what number is shown?", "how many shapes are there?")
LONG: dict[str, Any] = {"ignore_eos": True, "max_new_tokens": 12, "temperature": 0.0}


@pytest.fixture(autouse=True)
def _switching() -> Iterator[None]:
    """Threads change as often as they can, so that what is not guarded is met."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returns, in a thread of its own; all begin together."""
    barrier = Barrier(len(calls))

    def call(one: Callable[[], Any]) -> Any:
        barrier.wait()
        return one()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [done.result(timeout=120) for done in [pool.submit(call, one) for one in calls]]


def test_two_threads_ask_one_pipeline(
    shared_pipeline: vtp.Pipeline, scene: Path, runs: Runs
) -> None:
    pipeline, flipped = shared_pipeline, Image.open(scene).rotate(180)
    asked = [(scene, QUESTIONS[0], 0.1), (flipped, QUESTIONS[1], 0.5)] * 2
    right = [pipeline.generate(i, q, keep=k, **LONG).tokens for i, q, k in asked]
    assert len(set(right)) == 2
    runs.pause, runs.most = 1e-4, 0
    calls = [lambda one=one: pipeline.generate(*one[:2], keep=one[2], **LONG) for one in asked]
    for _ in range(3):
        assert [result.tokens for result in at_once(*calls)] == right
    # They took turns: no two graphs ran at one time.
    assert runs.most == 1


def test_streams_of_one_pipeline_interleave(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    """Between two steps the model is free: nobody waits for the end of another's answer."""
    alone = [shared_pipeline.generate(scene, question, **LONG).tokens for question in QUESTIONS]
    answers = [shared_pipeline.stream(scene, question, **LONG) for question in QUESTIONS]
    first = at_once(*(lambda answer=answer: next(answer) for answer in answers))
    assert all(first)
    for _ in zip(*answers, strict=False):
        pass
    assert [answer.finish().tokens for answer in answers] == alone


def test_a_request_is_prepared_while_another_is_answered(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    """A server can look at a request, and refuse it, while the model works."""
    with shared_pipeline.lock, ThreadPoolExecutor(1) as pool:
        request = pool.submit(shared_pipeline.request, scene, QUESTIONS[0]).result(timeout=60)
    assert request.counts == (26,)


def test_two_threads_ask_one_conversation(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    def answers(order: tuple[int, int]) -> dict[int, Any]:
        chat = shared_pipeline.chat()
        chat.ask(scene, QUESTIONS[0], **LONG)
        return {number: chat.ask(QUESTIONS[number], **LONG).tokens for number in order}

    right = [answers((0, 1)), answers((1, 0))]
    for _ in range(4):
        chat = shared_pipeline.chat()
        chat.ask(scene, QUESTIONS[0], **LONG)
        calls = (lambda n=n, chat=chat: chat.ask(QUESTIONS[n], **LONG).tokens for n in (0, 1))
        assert dict(enumerate(at_once(*calls))) in right
        assert repr(chat).startswith("Chat(3 turns")


def test_an_answer_that_the_conversation_left_goes_no_further(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    def after_one_piece(chat: vtp.Chat) -> tuple[str, vtp.Result]:
        answer = chat.stream(scene, QUESTIONS[1], **LONG)
        return next(answer), chat.ask("and the colour?", **LONG)

    piece, right = after_one_piece(shared_pipeline.chat())
    chat, begun, asked = shared_pipeline.chat(), Event(), Event()
    answer = chat.stream(scene, QUESTIONS[1], **LONG)

    def read() -> str:
        found = next(answer)
        begun.set()
        assert asked.wait(60)
        for _ in range(2):
            with pytest.raises(AnswerOutdated, match="asked something else meanwhile"):
                next(answer)
        return found

    def ask() -> vtp.Result:
        assert begun.wait(60)
        result = chat.ask("and the colour?", **LONG)
        asked.set()
        return result

    found, result = at_once(read, ask)
    assert found == piece == answer.result.text
    assert result.tokens == right.tokens
    # Nor did it write into the cache.
    assert chat.ask("and now?", max_new_tokens=3).tokens


def test_an_answer_that_was_never_read_is_part_of_the_conversation(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    read, unread = shared_pipeline.chat(), shared_pipeline.chat()
    assert len(read.ask(scene, QUESTIONS[0], max_new_tokens=1).tokens) == 1
    unread.stream(scene, QUESTIONS[0], max_new_tokens=1)
    again = [chat.ask("and now?", **LONG) for chat in (read, unread)]
    assert again[0].tokens == again[1].tokens
    assert again[0].prompt_tokens == again[1].prompt_tokens


def test_two_threads_read_one_answer(
    shared_pipeline: vtp.Pipeline, scene: Path, runs: Runs
) -> None:
    right = shared_pipeline.stream(scene, QUESTIONS[1], **LONG)
    pieces = list(right)
    assert len(pieces) > 4
    runs.pause = 1e-3
    for _ in range(3):
        answer = shared_pipeline.stream(scene, QUESTIONS[1], **LONG)
        parts = at_once(lambda answer=answer: list(answer), lambda answer=answer: list(answer))
        assert Counter(parts[0] + parts[1]) == Counter(pieces)
        assert answer.result.tokens == right.result.tokens


def test_closing_while_others_ask(pipeline: vtp.Pipeline, scene: Path) -> None:
    chat = pipeline.chat()
    right = pipeline.generate(scene, QUESTIONS[0], **LONG).tokens
    begun = Event()

    def ask(call: Callable[..., vtp.Result]) -> int:
        done = 0
        try:
            while done < 10**4:
                found = call(scene, QUESTIONS[0], ignore_eos=True, max_new_tokens=12)
                assert done or found.tokens == right
                done += 1
                begun.set()
        except AlreadyClosed:
            return done
        raise AssertionError("it was never closed")

    def close() -> int:
        assert begun.wait(60)
        pipeline.close()
        return 0

    assert sum(at_once(lambda: ask(pipeline.generate), lambda: ask(chat.ask), close)) >= 1
