"""The rounds of a profile: every keep once in each, so that drift of the machine hits all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from time import sleep

import numpy as np

from ..chat.chat import Chat
from ..chat.pipeline import Pipeline
from ..chat.result import Result
from ..chat.settings import Settings
from ..model.marks import Marks, Span
from .memory import device_bytes, peak_host_bytes
from .workload import WHOLE, Point, Workload

FIRST_TOKEN = "first token"
"""The phase that ends with the first token."""
DECODE = "decode"
"""The phase of one further token."""
REST_S = 0.05
"""Before each request: worker threads of the one before may still spin."""

Progress = Callable[[str], None]


def silent(step: str) -> None:
    """Progress that nobody sees."""


@dataclass(frozen=True, kw_only=True)
class TimedRequest:
    """One request that was timed. Phases lie end to end."""

    spans: tuple[Span, ...]
    """By the wall clock of the host."""
    device_spans: tuple[Span, ...] | None
    """By the clock of the device, where it works behind the host's back."""

    @property
    def phases(self) -> dict[str, float]:
        """Milliseconds of every phase, in order; by the device's clock where there is one."""
        found: dict[str, float] = {}
        for span in self.device_spans or self.spans:
            found[span.phase] = found.get(span.phase, 0.0) + span.ms
        return found

    @property
    def ttft_ms(self) -> float:
        """From the call to the first token, by the wall clock."""
        return next(span.stop_ms for span in self.spans if span.phase == FIRST_TOKEN)

    @property
    def latency_ms(self) -> float:
        """From the call to the end of the answer, by the wall clock."""
        return self.spans[-1].stop_ms

    @property
    def gaps_ms(self) -> list[float]:
        """Between one token and the next, by the wall clock."""
        return [span.ms for span in self.spans if span.phase == DECODE]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What does not change from round to round."""

    image_tokens_before: int
    image_tokens: int
    """As the vision graph left them."""
    prompt_tokens: int
    """Read in prefill by the first stage."""
    average_tokens: float
    """Image tokens that a language layer reads in the mean."""
    kv_bytes: int
    stages: tuple[dict[str, int | float], ...]
    """``first``, ``stop``, ``image_tokens``, ``tokens``, ``flops``, ``kv_bytes`` of each."""
    peak_host_bytes: int | None
    """Of the process up to the first answer at this keep; smaller keeps came before."""
    device_bytes: int | None
    """In use on the device, by all programs, at the end of that answer."""


@dataclass(kw_only=True)
class Series:
    """The requests of one point, one for each round."""

    point: Point
    facts: Facts
    requests: list[TimedRequest] = field(default_factory=list)

    def values(self) -> dict[str, np.ndarray]:
        """Metrics and phases, one value for each round."""
        metrics = {
            "ttft": [request.ttft_ms for request in self.requests],
            "latency": [request.latency_ms for request in self.requests],
        }
        if self.requests[0].gaps_ms:
            metrics["tpot"] = [float(np.mean(request.gaps_ms)) for request in self.requests]
        for phase in self.requests[0].phases:
            metrics[f"phase {phase}"] = [request.phases[phase] for request in self.requests]
        return {name: np.array(values) for name, values in metrics.items()}


class Measurement:
    """Asks the points of a workload, in turn.

    Args:
        pipeline: the bundle on its engine.
        workload: what to ask.
    """

    def __init__(self, pipeline: Pipeline, workload: Workload) -> None:
        self.pipeline, self.workload = pipeline, workload
        device = pipeline.engine.device()
        self._clock = None if device is None else device.clock()

    def ask(self, point: Point) -> tuple[TimedRequest, Result, Chat]:
        """One request, from the images to the last token; the conversation holds its KV cache."""
        workload, images = self.workload, point.has_images
        settings = Settings(
            keep=point.keeps if images else None,
            max_new_tokens=workload.new_tokens,
            temperature=0.0,
            ignore_eos=True,
        )
        # Without pruning a guide is not asked for its scores.
        guided = images and point.label != WHOLE
        chat = Chat(self.pipeline, None, self.pipeline.guide if guided else None)
        prompt = workload.prompt if images else workload.text_only_prompt
        shown = list(workload.images) if images else None
        marks = Marks(self._clock)
        request = chat.request(shown, prompt, settings=settings, mark=marks)
        result = chat.run(request, marks).finish()
        device = marks.device_spans()
        return (
            TimedRequest(
                spans=tuple(marks.spans()), device_spans=None if device is None else tuple(device)
            ),
            result,
            chat,
        )

    def first_answers(self, progress: Progress) -> dict[str, Series]:
        """Ask every point for the first time, the smallest first, so that the peak of memory after
        each is its own."""
        series: dict[str, Series] = {}
        for point in sorted(self.workload.points, key=lambda point: point.order):
            progress(f"first answer: {_shown(point)}")
            # Its memory is read while it holds it.
            _, result, chat = self.ask(point)
            series[point.label] = Series(point=point, facts=self._facts(result))
            del chat
        return {point.label: series[point.label] for point in self.workload.points}

    def round(self, number: int) -> dict[str, TimedRequest]:
        """Every point once; who begins changes from round to round, and so does the direction."""
        points = self.workload.points
        first = number % len(points)
        turns = (*points[first:], *points[:first])[:: 1 if number % 2 else -1]
        found: dict[str, TimedRequest] = {}
        for point in turns:
            gc.collect()
            sleep(REST_S)
            found[point.label], _, _ = self.ask(point)
        return found

    def _facts(self, result: Result) -> Facts:
        names = ("first", "stop", "image_tokens", "tokens", "flops", "kv_bytes")
        return Facts(
            image_tokens_before=result.image_tokens_before,
            image_tokens=result.image_tokens,
            prompt_tokens=result.prompt_tokens,
            average_tokens=result.average_tokens,
            kv_bytes=result.cache_bytes,
            stages=tuple({name: getattr(s, name) for name in names} for s in result.stages),
            peak_host_bytes=peak_host_bytes(),
            device_bytes=device_bytes(self.pipeline.engine.device()),
        )


def _shown(point: Point) -> str:
    return f"keep {point.label}" if point.has_images else point.label
