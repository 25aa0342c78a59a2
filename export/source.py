"""Find a model's folder: preset, local folder or hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelFileMissing, ModelNotFound
from .presets import PRESETS

_FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class ModelSource:
    """A model on this machine."""

    folder: Path
    id: str
    revision: str | None


def find_model(model: str, revision: str | None = None) -> ModelSource:
    """Find a model, downloading it if it is a hub id that is not in the cache.

    Only configuration, tokenizer and safetensors files are fetched; code never.

    Raises:
        ModelNotFound: it is nowhere; the message says how to pass a folder.
        ModelFileMissing: the folder has no config.json.
    """
    wanted = PRESETS[model].source if model in PRESETS else model
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelFileMissing(folder, "config.json")
        return ModelSource(folder, model if model in PRESETS else folder.resolve().name, None)
    if not _HUB_ID.fullmatch(wanted):
        raise ModelNotFound(model, PRESETS)
    return _from_hub(model, wanted, revision)


def _from_hub(model: str, wanted: str, revision: str | None) -> ModelSource:
    import huggingface_hub

    try:
        folder = Path(
            huggingface_hub.snapshot_download(wanted, revision=revision, allow_patterns=_FILES)
        )
    except Exception as error:  # no network, no such model, no licence accepted: many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise ModelNotFound(model, PRESETS, f"from the hub, {wanted}: {reason}") from error
    if not (folder / "config.json").is_file():
        raise ModelFileMissing(folder, "config.json")
    return ModelSource(folder, wanted, folder.name)
