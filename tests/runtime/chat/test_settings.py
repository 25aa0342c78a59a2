"""Settings and keyword arguments: one set of names, in every call."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import vtp
from vtp.errors import OptionInvalid, SettingRepeated
from vtp.runtime.chat.settings import SettingOptions

QUESTION = "what number is shown?"
SAMPLED: dict[str, Any] = {"keep": 0.5, "temperature": 1.5, "top_k": 40, "seed": 7}


def test_every_setting_is_a_keyword() -> None:
    hints = get_type_hints(vtp.Settings)
    assert get_type_hints(SettingOptions) == hints
    assert list(hints) == [field.name for field in fields(vtp.Settings)]


def test_every_setting_stands_in_the_docstring() -> None:
    text = vtp.Pipeline.stream.__doc__ or ""
    for field in fields(vtp.Settings):
        assert f"{field.name}:" in text or f"{field.name}`" in text, field.name


def test_all_calls_take_the_same() -> None:
    calls = (
        vtp.Pipeline.generate,
        vtp.Pipeline.stream,
        vtp.Pipeline.request,
        vtp.Chat.ask,
        vtp.Chat.stream,
    )
    names = [list(inspect.signature(call).parameters) for call in calls]
    assert names == [["self", "image", "prompt", "settings", "options"]] * len(calls)


def test_keywords_and_settings_say_the_same(shared_pipeline: vtp.Pipeline, scene: Path) -> None:
    right = shared_pipeline.generate(scene, QUESTION, max_new_tokens=4, **SAMPLED).tokens
    ways: list[dict[str, Any]] = [
        {"max_new_tokens": 4, **SAMPLED},
        {"settings": vtp.Settings(max_new_tokens=4, **SAMPLED)},
        {"settings": vtp.Settings(max_new_tokens=4), **SAMPLED},
        {"settings": vtp.Settings(max_new_tokens=4, **SAMPLED), "keep": None},
    ]
    for options in ways:
        assert shared_pipeline.generate(scene, QUESTION, **options).tokens == right
        assert shared_pipeline.stream(scene, QUESTION, **options).finish().tokens == right
        assert shared_pipeline.chat().ask(scene, QUESTION, **options).tokens == right
        assert shared_pipeline.chat().stream(scene, QUESTION, **options).finish().tokens == right


@pytest.mark.parametrize("value", [0.5, 0.25])
def test_one_setting_in_two_places(shared_pipeline: vtp.Pipeline, value: float) -> None:
    settings = vtp.Settings(keep=0.5, ignore_eos=True)
    for call in (shared_pipeline.generate, shared_pipeline.chat().stream):
        with pytest.raises(SettingRepeated, match=r"keep was given twice.*give it once") as caught:
            call(None, QUESTION, settings=settings, keep=value)
        assert isinstance(caught.value, TypeError)
        with pytest.raises(SettingRepeated, match="ignore_eos"):
            call(None, QUESTION, settings=settings, ignore_eos=True)
    with pytest.raises(SettingRepeated, match="keep"):
        shared_pipeline.generate(None, QUESTION, settings=settings, keep=np.array([0.5]))


def test_a_keyword_that_is_no_setting(shared_pipeline: vtp.Pipeline) -> None:
    for settings in (None, vtp.Settings()):
        for call in (shared_pipeline.generate, shared_pipeline.chat().stream):
            with pytest.raises(TypeError, match="kep"):
                call(None, QUESTION, settings=settings, kep=0.5)


def test_settings_that_are_none(shared_pipeline: vtp.Pipeline) -> None:
    settings: Any = {"keep": 0.5}
    with pytest.raises(OptionInvalid, match=r"give a vtp.Settings"):
        shared_pipeline.generate(None, QUESTION, settings=settings)
