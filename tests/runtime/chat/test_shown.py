"""What stands in a Python shell where an object is looked at."""

from __future__ import annotations

from pathlib import Path

import vtp

QUESTION = "what number is shown?"


def test_a_pipeline_shows_bundle_engine_method_and_keep(
    pipeline: vtp.Pipeline, tiny_bundle: Path
) -> None:
    assert repr(pipeline) == (
        f"Pipeline({str(tiny_bundle)!r}, engine cpu, method fastervlm, keep 0.1)"
    )
    pipeline.close()
    assert repr(pipeline) == f"Pipeline({str(tiny_bundle)!r}, closed, method fastervlm, keep 0.1)"


def test_a_conversation_shows_turns_and_tokens(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    chat = shared_pipeline.chat(300)
    assert repr(chat) == "Chat(0 turns, 0 of 300 tokens)"
    used = chat.ask(scene, QUESTION).cache_tokens
    assert repr(chat) == f"Chat(1 turn, {used} of 300 tokens)"
    used = chat.ask("and now?").cache_tokens
    assert repr(chat) == f"Chat(2 turns, {used} of 300 tokens)"
    chat.close()
    assert repr(chat) == "Chat(2 turns, 0 of 300 tokens, closed)"


def test_an_answer_shows_its_text_so_far(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    answer = shared_pipeline.stream(scene, QUESTION)
    first = next(answer)
    assert repr(answer) == f"Answer({first!r}, 1 tokens, going on)"
    result = answer.finish()
    assert repr(answer) == f"Answer({result.text!r}, {len(result.tokens)} tokens, eos)"
    assert repr(result).startswith(
        f"Result({result.text!r}, {len(result.tokens)} tokens, eos, 26 of 256 image tokens, "
    )


def test_nothing_shows_arrays(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    request = shared_pipeline.request(scene, QUESTION)
    assert repr(request) == (
        f"Request({QUESTION!r}, keep 0.1: 26 of 256 image tokens, {request.prompt_tokens} prompt "
        f"tokens, at most {request.max_new_tokens} new)"
    )
    result = shared_pipeline.run(request).finish()
    for shown in (result, *result.stages, result.timings):
        assert "array" not in repr(shown)
        assert len(repr(shown)) < 400
    long = shared_pipeline.generate(None, "what?", ignore_eos=True, max_new_tokens=200)
    assert len(repr(long)) < 200


def test_an_early_answer_shows_itself(sgl_bundle: Path, guide_bundle: Path, scene: Path) -> None:
    with vtp.load(sgl_bundle, "cpu", threads=1, guide=guide_bundle) as pipeline:
        answer = pipeline.stream(scene, QUESTION, exit_threshold=0.0)
        assert repr(answer).startswith(f"Answer({answer.result.text!r}, ")
        assert "array" not in repr(answer.result.guide)
