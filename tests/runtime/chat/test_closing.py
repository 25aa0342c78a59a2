"""After ``close`` memory is released and every call says so."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vtp
from vtp.errors import AlreadyClosed, ConversationError

QUESTION = "what number is shown?"


def test_every_call_after_close_says_so(pipeline: vtp.Pipeline, scene: Path) -> None:
    chat = pipeline.chat()
    chat.ask(scene, QUESTION)
    answer = pipeline.stream(scene, QUESTION, ignore_eos=True, max_new_tokens=9)
    request, text = pipeline.request(scene, QUESTION), next(answer)
    pipeline.close()
    pipeline.close()
    calls: list[Callable[[], Any]] = [
        lambda: pipeline.generate(scene, QUESTION),
        lambda: pipeline.stream(scene, QUESTION),
        lambda: pipeline.request(scene, QUESTION),
        lambda: pipeline.run(request),
        pipeline.chat,
        pipeline.__enter__,
        lambda: pipeline.vision,
        lambda: pipeline.decoder,
        lambda: pipeline.engine,
        lambda: chat.ask("and now?"),
        lambda: chat.stream("and now?"),
        lambda: chat.request("and now?"),
        lambda: next(answer),
        lambda: next(answer),
        answer.finish,
    ]
    for call in calls:
        with pytest.raises(
            AlreadyClosed, match=r"the pipeline has been closed.*vtp\.load"
        ) as error:
            call()
        assert isinstance(error.value, ConversationError)
        assert isinstance(error.value, RuntimeError)
    # What is known already can still be read.
    assert answer.result.text == text
    assert pipeline.bundle.manifest.plan.name == "fastervlm"


def test_a_pipeline_and_a_conversation_close_themselves(tiny_bundle: Path, scene: Path) -> None:
    with vtp.load(tiny_bundle, "cpu", threads=1, verify=False) as pipeline:
        with pipeline.chat() as chat:
            assert chat.ask(scene, QUESTION).text
        with pytest.raises(AlreadyClosed, match=r"the conversation has been closed.*pipeline.chat"):
            chat.ask("and now?")
        chat.close()
        with pytest.raises(AlreadyClosed), chat:
            pass
        # The pipeline goes on.
        assert pipeline.generate(scene, QUESTION).text
    with pytest.raises(AlreadyClosed):
        pipeline.generate(scene, QUESTION)


def test_memory_is_released_though_everything_is_still_held(
    pipeline: vtp.Pipeline, scene: Path
) -> None:
    chat = pipeline.chat()
    talking = chat.stream(scene, QUESTION, ignore_eos=True, max_new_tokens=9)
    answer = pipeline.stream(scene, QUESTION, ignore_eos=True, max_new_tokens=9)
    next(talking), next(answer)
    caches = [held._conversation.cache for held in (chat, answer)]
    buffers = [b for cache in caches if cache for b in cache.stages[0].inputs().values()]
    graphs = [*pipeline.decoder.graphs, *pipeline.vision._graphs.values()]
    sessions = [graph._session for graph in graphs]  # type: ignore[attr-defined]
    engine = pipeline.engine
    watched = [weakref.ref(one) for one in (*buffers, *graphs, *sessions, engine, *caches)]
    del caches, buffers, graphs, sessions, engine
    pipeline.close()
    gc.collect()
    assert [ref() for ref in watched if ref() is not None] == []
    assert all(held is not None for held in (chat, talking, answer))


def test_a_closed_conversation_releases_its_cache(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    chat = shared_pipeline.chat()
    answer = chat.stream(scene, QUESTION, ignore_eos=True, max_new_tokens=9)
    next(answer)
    cache = weakref.ref(chat._conversation.cache)  # type: ignore[arg-type]
    chat.close()
    gc.collect()
    assert cache() is None
    with pytest.raises(AlreadyClosed, match="conversation"):
        next(answer)


def test_an_answer_that_is_dropped_leaves_nothing(
    shared_pipeline: vtp.Pipeline, scene: Path
) -> None:
    """Without a garbage collection: a device would run full before one comes."""
    gc.collect()
    gc.disable()
    try:
        answer = shared_pipeline.stream(scene, QUESTION)
        cache = weakref.ref(answer._conversation.cache)  # type: ignore[arg-type]
        answer.finish()
        del answer
        assert cache() is None
    finally:
        gc.enable()


def test_a_guide_is_closed_with_its_pipeline(
    sgl_bundle: Path, guide_bundle: Path, scene: Path
) -> None:
    pipeline = vtp.load(sgl_bundle, "cpu", threads=1, guide=guide_bundle)
    guide = pipeline.guide
    assert guide is not None
    assert pipeline.generate(scene, QUESTION).guide is not None
    pipeline.close()
    with pytest.raises(AlreadyClosed):
        pipeline.generate(scene, QUESTION)
    with pytest.raises(AlreadyClosed):
        guide.request(QUESTION, [])
