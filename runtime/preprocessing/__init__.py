"""Images and videos to the inputs of the vision graph, one kind a file; a new one is a row here."""

from __future__ import annotations

from typing import Any

from ...errors import ManifestInvalid
from ...registry import load_row
from .base import SEPARATOR, Medium, Preprocessor, Resample

__all__ = [
    "PREPROCESSORS",
    "SEPARATOR",
    "Medium",
    "Preprocessor",
    "Resample",
    "preprocessor_class",
    "read_preprocessor",
    "write_preprocessor",
]

PREPROCESSORS: dict[str, str] = {
    "fixed": "fixed:ImagePreprocessor",
    "anyres": "anyres:AnyResPreprocessor",
    "tiles": "tiles:TilePreprocessor",
    "patches": "patches:PatchPreprocessor",
}
"""Tag in the manifest, and the class whose settings follow it."""


def preprocessor_class(kind: str, where: str = "manifest.preprocessing") -> type[Preprocessor]:
    """The class of a tag.

    Raises:
        ManifestInvalid: no such tag; ``where`` is the place in the manifest that is named.
    """
    if kind not in PREPROCESSORS:
        raise ManifestInvalid(
            f"{where}.kind", f"{kind!r} is unknown; known: {', '.join(PREPROCESSORS)}"
        )
    found: type[Preprocessor] = load_row(PREPROCESSORS[kind], __name__)
    return found


def read_preprocessor(data: object, where: str = "manifest.preprocessing") -> Preprocessor:
    """Read what ``write_preprocessor`` wrote, strictly.

    Raises:
        ManifestInvalid: naming the entry and what is wrong with it.
    """
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise ManifestInvalid(where, "an object with an entry 'kind' is needed")
    settings = {key: value for key, value in data.items() if key != "kind"}
    return preprocessor_class(data["kind"], where).from_dict(settings, where)


def write_preprocessor(preprocessor: Preprocessor) -> dict[str, Any]:
    """The settings as JSON types, after their tag."""
    return {"kind": preprocessor.kind, **preprocessor.to_dict()}
