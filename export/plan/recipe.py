"""From names and parameters, as a user gives them, to methods and the plan they make."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ...errors import (
    KeepGrows,
    MethodsDoNotCombine,
    OptionInvalid,
    ParameterInvalid,
    ScoreNotAvailable,
)
from ...runtime.bundle.keep import Keep, Keeps, keep_count
from ...runtime.bundle.plan import POSITIONS, Drop, GuideRecord, MethodRecord, Plan
from ..methods import method_class
from ..methods.base import COLUMN_MEAN, AttentionScored, DecoderMethod, Method, VisionMethod
from ..methods.guide import GuideMethod
from ..methods.schedule import FreeSchedule
from ..parts.vision import VisionParts


@dataclass(frozen=True)
class Recipe:
    """The methods of one bundle: at most one of each side."""

    methods: tuple[Method, ...]
    positions: str | None = None
    """Asked for; None takes the published mode."""
    by_default: bool = False
    """Whether neither method nor score was asked for."""

    def for_tower(self, has_cls: bool) -> Recipe:
        """The same, its score fitted to the tower where none was asked for."""
        if has_cls or not self.by_default:
            return self
        fitted = [
            replace(method, score=COLUMN_MEAN) if isinstance(method, AttentionScored) else method
            for method in self.methods
        ]
        return replace(self, methods=tuple(fitted))

    @property
    def vision(self) -> VisionMethod | None:
        """The method in the vision graph."""
        return next((m for m in self.methods if isinstance(m, VisionMethod)), None)

    @property
    def decoder(self) -> DecoderMethod | None:
        """The method inside the decoder."""
        return next((m for m in self.methods if isinstance(m, DecoderMethod)), None)

    @property
    def guide(self) -> GuideMethod | None:
        """Set where the model becomes a guide."""
        return next((m for m in self.methods if isinstance(m, GuideMethod)), None)

    def plan(
        self,
        parts: VisionParts,
        depth: int,
        keep: Keeps | None,
        average: Keep | None,
        only: str | None = None,
    ) -> Plan:
        """The plan for a model.

        Args:
            parts: the vision side of the model.
            depth: layers of its decoder.
            keep: default keeps, one for each drop; None takes the methods' own.
            average: default keeps from a mean over the layers, instead of ``keep``.
            only: the one position mode that the model allows; None for any.

        Raises:
            OptionInvalid, ScoreNotAvailable, LayerOutOfRange, KeepOutOfRange, KeepCountMismatch,
            KeepGrows, AverageOutOfReach: as they say.
        """
        drops: list[Drop] = []
        if only is not None and self.positions not in (None, only):
            raise OptionInvalid(
                "positions",
                self.positions,
                f"{only}: this model numbers image tokens by row and column, not in sequence",
            )
        if self.vision is not None:
            self.vision.check(parts)
            layer = self.vision.score_layer(len(parts.scored))
            drops.append(
                Drop(
                    layer=0,
                    keep=self.vision.default_keep,
                    score=self.vision.name,
                    score_layer=None if layer is None else parts.scored[layer],
                    rounding=self.vision.rounding,
                )
            )
        if self.decoder is not None:
            inner = self.decoder.drops(depth)
            as_given = isinstance(self.decoder, FreeSchedule) and keep is None and average is None
            drops += list(inner) if as_given else _capped(inner, drops)
            keeps = [keep_count(drop.keep, parts.tokens, drop.rounding) for drop in drops]
            if keeps != sorted(keeps, reverse=True):
                raise KeepGrows([drop.keep for drop in drops])
        if self.vision is None and any(drop.score == "vision" for drop in drops):
            raise ScoreNotAvailable(
                "vision",
                "ranks by the score of the vision graph, but the plan has no method on the vision "
                "side: add one, such as --method fastervlm+schedule",
            )
        guide = self.guide
        plan = Plan(
            methods=tuple(
                MethodRecord(name=m.name, parameters=m.parameters())
                for m in self.methods
                if m.name != "none"
            ),
            tokens=parts.tokens,
            grid=parts.grid,
            layers=depth,
            drops=tuple(drops),
            positions=self.positions or only or self._published_positions(),
            guide=GuideRecord(include_last_visual_row=guide.include_last_visual_row)
            if guide
            else None,
        )
        if average is not None:
            keep = plan.keeps_for_average(average)
        if keep is None:
            return plan
        plan.counts(keep, 1)
        changed = zip(plan.drops, plan.keeps(keep), strict=True)
        return replace(plan, drops=tuple(replace(drop, keep=one) for drop, one in changed))

    def _published_positions(self) -> str:
        """Numbers made anew at every drop by one method, or else by the vision side's method."""
        modes = [m.positions for m in (self.vision, self.decoder) if m is not None]
        if "compact-per-stage" in modes:
            return "compact-per-stage"
        return modes[0] if modes else "compact"


def _capped(drops: tuple[Drop, ...], before: list[Drop]) -> list[Drop]:
    """Default keeps of a decoder method are shares of what the vision side leaves by default."""
    if not before:
        return list(drops)
    share = before[-1].keep
    assert isinstance(share, float)
    return [
        replace(drop, keep=drop.keep * share) if isinstance(drop.keep, float) else drop
        for drop in drops
    ]


def make_recipe(
    method: str | None,
    parameters: Mapping[str, Any],
    stages: tuple[str, ...] = (),
    positions: str | None = None,
) -> Recipe:
    """The methods that a text such as ``fastervlm+sparsevlm:64`` names.

    Args:
        method: names with ``+`` between, each with ``:PRESET`` behind it or not; None takes the
            stages alone where some are given, else FasterVLM.
        parameters: parameter -> value (or its text); ``NAME.PARAMETER`` where several methods have
        it. stages: ``LAYER:KEEP:SCORE`` each: a free schedule inside the decoder. positions:
        position mode; None takes the published one.

    Raises:
        MethodUnknown, MethodsDoNotCombine, ParameterInvalid: as they say.
    """
    by_default = method is None and not {"score", "fastervlm.score"} & set(parameters)
    if method is None:
        method = "schedule" if stages else "fastervlm"
    names = [part.strip() for part in method.split("+")]
    if stages and "schedule" not in (name.partition(":")[0] for name in names):
        names.append("schedule")
    classes = [(method_class(name.partition(":")[0]), name.partition(":")[2]) for name in names]
    _check_combination([cls for cls, _ in classes])
    given = {cls.name: dict(_preset(cls, preset)) for cls, preset in classes}
    if stages:
        given["schedule"]["stages"] = stages
    for key, value in parameters.items():
        cls, name = _owner(key, value, [cls for cls, _ in classes])
        given[cls.name][name] = _converted(cls, name, value)
    if positions is not None and positions not in POSITIONS:
        raise ParameterInvalid(method, "positions", positions, " or ".join(POSITIONS))
    made = tuple(cls(**given[cls.name]) for cls, _ in classes)
    if any(isinstance(m, FreeSchedule) and not m.stages for m in made):
        raise ParameterInvalid("schedule", "stages", (), "at least one --stage LAYER:KEEP:SCORE")
    return Recipe(made, positions, by_default)


def _check_combination(classes: list[type[Method]]) -> None:
    names = [cls.name for cls in classes]
    for side, kind in (("vision side", VisionMethod), ("decoder", DecoderMethod)):
        if sum(issubclass(cls, kind) for cls in classes) > 1:
            raise MethodsDoNotCombine(names, f"two of them drop tokens in the {side}")
    if len(names) != len(set(names)):
        raise MethodsDoNotCombine(names, "one is given twice")
    if len(names) > 1 and {"none", "guide"} & set(names):
        raise MethodsDoNotCombine(names, "none and guide keep every token")


def _preset(cls: type[Method], preset: str) -> Mapping[str, Any]:
    if not preset:
        return {}
    if preset not in cls.presets:
        known = ", ".join(f"{cls.name}:{name}" for name in cls.presets) or "none: it has no presets"
        raise ParameterInvalid(cls.name, "preset", preset, known)
    return cls.presets[preset]


def _owner(key: str, value: Any, classes: list[type[Method]]) -> tuple[type[Method], str]:
    method, _, name = key.rpartition(".")
    owners = [
        cls
        for cls in classes
        if method in ("", cls.name) and name in {field.name for field in fields(cls)}
    ]
    if len(owners) == 1:
        return owners[0], name
    label = "+".join(cls.name for cls in classes)
    if owners:
        accepted = " or ".join(f"{cls.name}.{name}" for cls in owners)
    else:
        every = [f"{cls.name}.{field.name}" for cls in classes for field in fields(cls)]
        accepted = "one of " + ", ".join(every) if every else "nothing: it has no parameters"
    raise ParameterInvalid(label, key, value, accepted)


def _converted(cls: type[Method], name: str, value: Any) -> Any:
    """A value given as text, in the type of its field."""
    hint = typing.get_type_hints(cls)[name]
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        return _parse(hint, value)
    except ValueError:
        wanted = getattr(hint, "__name__", str(hint))
        if typing.get_origin(hint) is tuple:
            wanted = f"{typing.get_args(hint)[0].__name__}s separated by commas"
        raise ParameterInvalid(cls.name, name, value, f"a value of type {wanted}") from None


def _parse(hint: Any, text: str) -> Any:
    if typing.get_origin(hint) is tuple:
        return tuple(_parse(typing.get_args(hint)[0], part) for part in text.split(",") if part)
    if hint is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return hint(text)
