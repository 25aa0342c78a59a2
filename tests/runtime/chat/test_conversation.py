"""A conversation whose turn fails goes on from where it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vtp
from vtp.errors import RunFailed
from vtp.runtime.engines.onnxruntime import cpu

GREEDY: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.3, "max_new_tokens": 6}


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes one of the next runs of graphs fail, counted from 1."""
    left, run = [0], cpu._BoundRun.__call__

    def counted(self: cpu._BoundRun) -> None:
        run(self)
        left[0] -= 1
        if left[0] == 0:
            raise RunFailed("cpu", "the test says so")

    def at(number: int) -> None:
        left[0] = number

    monkeypatch.setattr(cpu._BoundRun, "__call__", counted)
    return at


def chat_after_one_turn(pipeline: vtp.Pipeline, scene: Path) -> vtp.Chat:
    chat = pipeline.chat()
    chat.ask(scene, "what number is shown?", **GREEDY)
    return chat


def test_a_turn_that_fails_while_it_is_read_is_forgotten(
    shared_pipeline: vtp.Pipeline, scene: Path, fail_at: Any
) -> None:
    right = chat_after_one_turn(shared_pipeline, scene).ask("which colour is it?", **GREEDY)
    for run in (1, 2):  # the vision graph, the language graph
        chat = chat_after_one_turn(shared_pipeline, scene)
        fail_at(run)
        with pytest.raises(RunFailed):
            chat.ask(scene, "how many shapes are there?", **GREEDY)
        again = chat.ask("which colour is it?", **GREEDY)
        assert (again.tokens, again.cache_tokens) == (right.tokens, right.cache_tokens)


def test_a_step_that_fails_leaves_what_was_generated(
    shared_pipeline: vtp.Pipeline, scene: Path, fail_at: Any
) -> None:
    options = {**GREEDY, "ignore_eos": True}

    def second(chat: vtp.Chat) -> tuple[int, ...]:
        return chat.ask("which colour is it?", **options).tokens

    stopped = shared_pipeline.chat()
    assert len(stopped.ask(scene, "what is it?", **{**options, "max_new_tokens": 3}).tokens) == 3
    chat = shared_pipeline.chat()
    answer = chat.stream(scene, "what is it?", **options)
    fail_at(3)  # of the steps after the first token
    with pytest.raises(RunFailed):
        answer.finish()
    assert len(answer.result.tokens) == 3
    assert second(chat) == second(stopped)
