"""``vtp list``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from .options import format_option
from .tables import show

if TYPE_CHECKING:
    from ..export.methods.base import Method

_KINDS = ("presets", "methods", "scores", "families", "engines")


@click.command("list")
@click.argument("kind", type=click.Choice(_KINDS), required=False)
@format_option
def list_(kind: str | None, form: str) -> None:
    """List all presets, methods, scores, families and engines, or only one KIND.

    \b
    Example:
      vtp list
      vtp list methods --format md
    """
    rows = {
        "presets": _presets,
        "methods": _methods,
        "scores": _scores,
        "families": _families,
        "engines": _engines,
    }
    show({name: rows[name]() for name in ([kind] if kind else _KINDS)}, form)


def _presets() -> Sequence[Mapping[str, Any]]:
    from ..export.source.presets import PRESETS

    return [
        {"preset": name, "model": preset.source, "description": preset.summary}
        for name, preset in PRESETS.items()
    ]


def _methods() -> Sequence[Mapping[str, Any]]:
    from ..export.methods import METHODS, method_class

    if find_spec("torch") is None:
        # Method classes need torch; their names do not.
        return [{"method": name} for name in METHODS]
    return [_method(name, method_class(name)) for name in METHODS]


def _method(name: str, cls: type[Method]) -> Mapping[str, Any]:
    from ..export.methods.base import DecoderMethod, VisionMethod

    side = "vision" if issubclass(cls, VisionMethod) else "-"
    return {
        "method": name,
        "side": "decoder" if issubclass(cls, DecoderMethod) else side,
        "keeps": cls.summary,
        "parameters": [f"{f.name}={_shown(f.default)}" for f in fields(cls)],
        "presets": list(cls.presets),
        "positions": cls().positions,
        "paper": cls.paper,
    }


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _scores() -> Sequence[Mapping[str, Any]]:
    from ..export.scores import SCORES

    if find_spec("torch") is None:
        return [{"score": name} for name in SCORES]
    from ..export.scores import score_class

    return [{"score": name, "ranks by": score_class(name).summary} for name in SCORES]


def _families() -> Sequence[Mapping[str, Any]]:
    from ..export.families import FAMILIES

    return [{"family (model_type)": name} for name in FAMILIES]


def _engines() -> Sequence[Mapping[str, Any]]:
    from ..runtime.engines import ENGINES, engine_class

    rows = []
    for name in ENGINES:
        cls = engine_class(name)
        missing = cls.missing()
        rows.append(
            {
                "engine": name,
                "description": cls.summary,
                "targets": list(cls.targets),
                "runs here": "no" if missing else "yes",
                "reason": missing,
            }
        )
    return rows
