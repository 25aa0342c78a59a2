"""``vtp list``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any

import click

from .options import format_option
from .tables import show

_KINDS = ("presets", "methods", "families", "engines")


@click.command("list")
@click.argument("kind", type=click.Choice(_KINDS), required=False)
@format_option
def list_(kind: str | None, form: str) -> None:
    """List presets, methods, families and engines, or one KIND of them.

    \b
    Example:
      vtp list
      vtp list methods --format md
    """
    rows = {"presets": _presets, "methods": _methods, "families": _families, "engines": _engines}
    show({name: rows[name]() for name in ([kind] if kind else _KINDS)}, form)


def _presets() -> Sequence[Mapping[str, Any]]:
    from ..export.presets import PRESETS

    return [
        {"preset": name, "model": preset.source, "what it is": preset.summary}
        for name, preset in PRESETS.items()
    ]


def _methods() -> Sequence[Mapping[str, Any]]:
    from ..export.methods import METHODS, method_class

    if find_spec("torch") is None:
        # Method classes need torch; their names do not.
        return [{"method": name} for name in METHODS]
    classes = {name: method_class(name) for name in METHODS}
    return [
        {
            "method": name,
            "what it keeps": cls.summary,
            "needs [CLS]": "yes" if cls.needs_cls else "no",
            "default keep": str(cls.default_keep),
            "paper": cls.paper,
        }
        for name, cls in classes.items()
    ]


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
                "what it is": cls.summary,
                "targets": list(cls.targets),
                "runs here": "no" if missing else "yes",
                "why not": missing,
            }
        )
    return rows
