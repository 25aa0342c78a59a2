"""Asks a bundle questions, each once: what the journal holds is not asked again."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import DataInvalid, ImageError, PromptError
from ..runtime import Pipeline, Result, Settings
from ..runtime.bundle.bundle import Bundle
from ..runtime.bundle.keep import Keep
from ..runtime.files.strict import read, write
from .data import Question, QuestionFile
from .journal import Journal
from .progress import Clock, Progress

NEVER = 2.0
"""An exit threshold that no certainty is above: guide and large model both answer."""


@dataclass(frozen=True, kw_only=True)
class Guided:
    """What a guide answered by itself."""

    text: str
    certainty: float
    """Mean of its confidence and consistency."""
    ms: float
    """Its time, milliseconds."""


@dataclass(frozen=True, kw_only=True)
class ModelAnswer:
    """One answer."""

    text: str
    tokens: tuple[int, ...]
    ttft_ms: float
    """Time to the first token, milliseconds."""
    average_tokens: float
    """Image tokens that a language layer read, mean over the layers."""
    guided: Guided | None = None
    """What the guide said, where it was asked too."""


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """How the questions are asked."""

    max_new_tokens: int | None = None
    """Longest answer; None takes the bundle's default."""
    guide: Path | None = None
    """Bundle of the guide, which the pipeline was loaded with."""
    check_guide: bool = False
    """Whether the guide's own answer and its certainty are wanted too."""
    threads: int | None = None
    """CPU threads, which the pipeline was loaded with."""
    variant: str | None = None
    """Built engines, which the pipeline was loaded with."""


class Answerer:
    """Greedy answers of one bundle.

    Args:
        pipeline: the bundle on its engine.
        data: the questions.
        journal: what has been answered, by this bundle or others.
        options: how to ask.
        progress: told of every answer.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        data: QuestionFile,
        journal: Journal,
        options: AnswerOptions,
        progress: Progress,
    ) -> None:
        self.pipeline = pipeline
        self.data = data
        self._journal = journal
        self._progress = progress
        self._settings = Settings(
            max_new_tokens=options.max_new_tokens,
            temperature=0.0,
            exit_threshold=NEVER if options.check_guide else None,
        )
        self._setup = _identity(pipeline, options)
        self._digests: dict[int, str] = {}
        self._warm = False

    def ask(self, points: Sequence[tuple[Keep, ...]]) -> dict[tuple[Keep, ...], list[ModelAnswer]]:
        """Ask every question at several keeps.

        Question by question, so that a machine that gets slower or faster does so for all keeps
        alike.

        Args:
            points: keeps, one for each drop.

        Returns:
            For each of ``points`` the answers in the order of the questions.

        Raises:
            DataInvalid: a question that the model cannot be asked, by its line.
        """
        clock = Clock(len(points) * len(self.data.questions), self._progress)
        found: dict[tuple[Keep, ...], list[ModelAnswer]] = {point: [] for point in points}
        for question in self.data.questions:
            for point in points:
                asked, fresh = self._one(question, point)
                found[point].append(asked)
                clock.answered(fresh)
        return found

    def each(self, point: tuple[Keep, ...]) -> Iterator[ModelAnswer]:
        """Ask every question at one keep, as far as is wanted; as ``ask``."""
        clock = Clock(len(self.data.questions), self._progress)
        for question in self.data.questions:
            asked, fresh = self._one(question, point)
            clock.answered(fresh)
            yield asked

    def _one(self, question: Question, keep: tuple[Keep, ...]) -> tuple[ModelAnswer, bool]:
        with named(self.data.path, question):
            if question.line not in self._digests:
                self._digests[question.line] = question.digest()
        key = _hash([self._setup, self._digests[question.line], list(keep)])
        noted = self._journal.get(key)
        if noted is not None:
            return read(ModelAnswer, noted["asked"], "journal"), False
        with named(self.data.path, question):
            if not self._warm:
                # The first run of all takes the time of loading too.
                self._generate(question, keep)
                self._warm = True
            asked = _recorded(self._generate(question, keep))
        note = {"line": question.line, "keep": list(keep), "asked": write(asked)}
        self._journal.add(key, note)
        return asked, True

    def _generate(self, question: Question, keep: tuple[Keep, ...]) -> Result:
        # A bundle without drops takes 1.0.
        keeps, settings = keep or 1.0, self._settings
        return self.pipeline.generate(
            question.image, question.prompt, keep=keeps, settings=settings
        )


def _recorded(result: Result) -> ModelAnswer:
    said = result.guide
    return ModelAnswer(
        text=result.text,
        tokens=result.tokens,
        ttft_ms=result.timings.ttft_ms,
        average_tokens=result.average_tokens,
        guided=None
        if said is None
        else Guided(text=said.text, certainty=said.certainty, ms=said.ms),
    )


@contextmanager
def named(path: Path, question: Question) -> Iterator[None]:
    """Errors of a question name its line."""
    try:
        yield
    except (ImageError, PromptError, OSError) as error:
        raise DataInvalid(str(path), question.line, str(error)) from error


def _identity(pipeline: Pipeline, options: AnswerOptions) -> str:
    """sha256 of everything that an answer and its time hang on, but question and keep."""
    return _hash(
        [
            identity(pipeline.bundle),
            identity(Bundle(options.guide)) if options.guide is not None else None,
            pipeline.engine.name,
            pipeline.target,
            [platform.machine(), os.cpu_count()],
            {k: v for k, v in asdict(options).items() if k != "guide"},
        ]
    )


def identity(bundle: Bundle) -> str:
    """sha256 of what a bundle computes; default keeps, history and engines are no part of it."""
    manifest: dict[str, Any] = write(bundle.manifest)
    for name in ("history", "variants", "vtp"):
        manifest.pop(name, None)
    for drop in manifest["plan"]["drops"]:
        drop.pop("keep")
    return _hash(manifest)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
