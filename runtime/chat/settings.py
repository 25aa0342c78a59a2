"""How to answer, as the caller says it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypedDict

from ...errors import KeepOutOfRange, OptionInvalid, SamplingInvalid, SettingRepeated
from ..bundle.keep import Keep, Keeps
from ..bundle.manifest import GenerationDefaults
from ..bundle.plan import Plan
from ..model.sampling import Sampling

_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")


class SettingOptions(TypedDict, total=False):
    """The fields of ``Settings`` as keyword arguments."""

    keep: Keeps | None
    average: Keep | None
    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    repetition_penalty: float | None
    seed: int | None
    exit_threshold: float | None
    ignore_eos: bool


@dataclass(frozen=True)
class Settings:
    """How to answer; None takes the bundle's default."""

    keep: Keeps | None = None
    """Kept image tokens of each image, ratio (float) or count (int); one for each place where the
    plan drops, in order."""
    average: Keep | None = None
    """Instead of ``keep``, image tokens that a language layer reads in the mean."""
    max_new_tokens: int | None = None
    """Longest answer; None takes the model's default, or what its context leaves."""
    temperature: float | None = None
    """0 is greedy."""
    top_p: float | None = None
    """Nucleus sampling."""
    top_k: int | None = None
    """Draw from so many most probable tokens, 0 from all."""
    repetition_penalty: float | None = None
    """Makes tokens less likely that prompt or answer hold already, greedy or not; 1 changes
    nothing."""
    seed: int | None = None
    """Makes sampling repeatable."""
    exit_threshold: float | None = None
    """With a guide: return its answer where its certainty, mean of confidence and consistency, is
    above this; None always asks the large model too."""
    ignore_eos: bool = False
    """Whether to go on after an end token, to ``max_new_tokens``."""

    @classmethod
    def of(cls, settings: Settings | None, options: SettingOptions) -> Settings:
        """Settings and keyword arguments of one call together.

        Raises:
            SettingRepeated: one is in both.
            OptionInvalid: ``settings`` is something else.
            TypeError: a keyword that is no setting.
        """
        if settings is None:
            return cls(**options)
        if not isinstance(settings, cls):
            raise OptionInvalid("settings", settings, "a vtp.Settings, or keyword arguments")
        named = cls(**options)
        for field in fields(cls):
            both = (getattr(settings, field.name), getattr(named, field.name))
            if all(value is not field.default for value in both):
                raise SettingRepeated(field.name)
        changed = {name: value for name, value in options.items() if value is not None}
        return replace(settings, **changed)  # type: ignore[arg-type]

    def keeps(self, plan: Plan) -> tuple[Keep, ...]:
        """One keep for each drop of a plan.

        Raises:
            KeepOutOfRange, KeepCountMismatch, AverageOutOfReach: they do not fit it.
        """
        if self.average is None:
            return plan.keeps(self.keep)
        if self.keep is not None:
            raise KeepOutOfRange(f"{self.keep} with average {self.average}")
        return plan.keeps(plan.keeps_for_average(self.average))

    def sampling(self, defaults: GenerationDefaults) -> Sampling:
        """How tokens are chosen.

        Raises:
            SamplingInvalid: a setting outside its range.
        """
        chosen = {
            name: getattr(defaults if getattr(self, name) is None else self, name)
            for name in _SAMPLING
        }
        return Sampling(**chosen, seed=self.seed)

    def check_limits(self) -> None:
        """Refuse numbers that no model takes.

        Raises:
            SamplingInvalid: a longest answer or an exit threshold outside its range.
        """
        most, threshold = self.max_new_tokens, self.exit_threshold
        if most is not None and most < 1:
            raise SamplingInvalid("max_new_tokens", most, "a count of at least 1")
        if threshold is not None and not (isinstance(threshold, (int, float)) and threshold >= 0):
            raise SamplingInvalid("exit_threshold", threshold, "a number from 0 up, such as 0.9")
