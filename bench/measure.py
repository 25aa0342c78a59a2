"""The measurement: both sides in one process, step by step in turn, and the machine in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import sleep
from typing import Any

import numpy as np

from ..export.plan.sample import sample_image
from .floors import Machine
from .sides import HuggingFace, Ours, timed

KEEPS = (1.0, 0.5, 0.25, 0.1, 0.05)
SAME = 1e-3
"""Largest relative difference that the two sides may show, as at export."""
_REST_S = 0.05
"""Before each timed step: worker threads of the step before may still spin."""


@dataclass
class Series:
    """Milliseconds of one step, one for each repetition."""

    values: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        """Median, least and most."""
        return {"median": median(self.values), "min": min(self.values), "max": max(self.values)}


class Comparison:
    """Runs the repetitions; ``series`` holds what was measured.

    Keys of ``series`` are ``ours <step> <keep>`` and ``hf <step>``; steps are ``vision``,
    ``prefill``, ``ttft``, ``decode`` (of one token) and ``answer`` (image to last token).

    Args:
        ours: this runtime.
        theirs: Hugging Face.
        steps: tokens decoded in each repetition.
        machine: measures matrix rate and bandwidth once in every repetition.
    """

    def __init__(self, ours: Ours, theirs: HuggingFace, steps: int, machine: Machine) -> None:
        self.ours, self.theirs, self.steps, self.machine = ours, theirs, steps, machine
        self.series: dict[str, Series] = {}
        self.answered: dict[str, int] = {}
        """Tokens of the whole answers: an end token may come early."""
        self.image = sample_image()
        self._warm = False

    def check(self) -> dict[str, float]:
        """Same inputs, same answer: largest differences relative to the largest magnitude.

        Raises:
            SystemExit: the two sides do not read or compute the same.
        """
        tokens = self.theirs.encode()
        if tokens != self.ours.tokens:
            raise SystemExit(f"Error: token ids differ: {tokens} and {self.ours.tokens}")
        pixels, their_pixels = self.ours.pixels(self.image), self.theirs.pixels(self.image)
        seen, features = self.ours.vision(pixels, 1.0), self.theirs.vision(their_pixels)
        logits, _ = self.ours.prefill(seen)
        their_logits, _ = self.theirs.prefill(tokens, features)
        found = {
            "pixels": _difference(their_pixels.numpy(), pixels.pixels),
            "image_embeds": _difference(features.numpy(), seen.embeds[0].read()[0]),
            "logits": _difference(their_logits.numpy()[0], logits),
        }
        if not max(found.values()) <= SAME:
            raise SystemExit(f"Error: the two sides differ, so times mean nothing: {found}")
        return found

    def run(self, repeat: int, progress: Callable[[str], None]) -> None:
        """One repetition to warm up, then ``repeat`` that count; who goes first alternates."""
        for number in range(repeat + 1):
            self._warm = number > 0
            progress(f"repetition {number} of {repeat}" if number else "warm-up")
            turns = [lambda: self._ours(1.0), self._hugging_face]
            for turn in turns if number % 2 else reversed(turns):
                turn()
            for keep in KEEPS[1:]:
                self._ours(keep)
            self.machine.measure()

    def run_static(self, repeat: int) -> Series:
        """Decoding of Hugging Face over a preallocated cache, where that is faster."""
        series, tokens = Series(), self.theirs.encode()
        features = self.theirs.vision(self.theirs.pixels(self.image))
        for number in range(repeat + 1):
            cache = self.theirs.static_cache(self.ours.length(1.0) + self.steps)
            logits, cache = self.theirs.prefill(tokens, features, cache)
            sleep(_REST_S)
            spent, _ = timed(self.theirs.decode, logits, cache, self.steps)
            if number:
                series.values.append(spent / self.steps)
        return series

    def _ours(self, keep: float) -> None:
        ours, at = self.ours, f"{keep:g}"
        pixels = ours.pixels(self.image)
        seen = self._time(f"ours vision {at}", ours.vision, pixels, keep)
        logits, cache = self._time(f"ours prefill {at}", ours.prefill, seen)
        self._time(f"ours decode {at}", ours.decode, logits, cache, self.steps, per=self.steps)
        del cache
        self._time(f"ours ttft {at}", ours.first_token, self.image, keep)
        key = f"ours answer {at}"
        self.answered[key] = self._time(key, ours.answer, self.image, self.steps, keep)

    def _hugging_face(self) -> None:
        theirs = self.theirs
        pixels, tokens = theirs.pixels(self.image), theirs.encode()
        features = self._time("hf vision", theirs.vision, pixels)
        logits, cache = self._time("hf prefill", theirs.prefill, tokens, features)
        self._time("hf decode", theirs.decode, logits, cache, self.steps, per=self.steps)
        del cache
        self._time("hf ttft", theirs.first_token, self.image)
        key = "hf answer"
        self.answered[key] = self._time(key, theirs.answer, self.image, self.steps)

    def _time(self, key: str, function: Any, *arguments: Any, per: int = 1) -> Any:
        sleep(_REST_S)
        spent, result = timed(function, *arguments)
        if self._warm:
            self.series.setdefault(key, Series()).values.append(spent / per)
        return result


def _difference(want: np.ndarray, got: np.ndarray) -> float:
    return float(np.abs(want - got).max() / max(np.abs(want).max(), 1e-6))
