"""Find a model's folder: preset, local folder or hub id."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import AdapterFolder, ModelFileMissing, ModelNotFound, UnsafeWeights
from .checkpoint import INDEX, SINGLE, UNSAFE
from .presets import PRESETS

_FIRST = ["*.json", "*.jinja", "tokenizer.model"]
"""All but the weights: enough to check the model and the options."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CACHED = re.compile(r"models--(.+)/snapshots/([0-9a-f]+)")
"""The end of a folder in the cache of the hub's client."""


@dataclass(frozen=True)
class ModelSource:
    """A model on this machine; where it comes from the hub, its weights may still be there."""

    folder: Path
    id: str
    revision: str | None
    hub: str | None = None
    """Repository that the weights are to be fetched from."""

    def fetch_weights(self) -> None:
        """Download the weights that ``Checkpoint`` will read, where they are not here yet.

        Raises:
            ModelNotFound: the hub does not deliver them.
            UnsafeWeights: the repository has none in safetensors.
        """
        if self.hub is None or self._complete():
            return
        names = _listed(self.hub, self.revision)
        shards = _shards(self.folder / INDEX) if INDEX in names else []
        variants = [name for name in names if re.fullmatch(r"model\.[\w.-]+\.safetensors", name)]
        wanted = [SINGLE] if SINGLE in names else shards or variants
        if wanted:
            _download(self.hub, self.hub, self.revision, wanted)
            return
        for name in names:
            if name.endswith(UNSAFE):
                raise UnsafeWeights(self.folder, name)

    def _complete(self) -> bool:
        """Whether what will be read is here already."""
        for names in ([SINGLE], _shards(self.folder / INDEX)):
            if names and all((self.folder / name).is_file() for name in names):
                return True
        return False


def find_model(model: str, revision: str | None = None) -> ModelSource:
    """Find a model; of one on the hub that is not in the cache, download all but the weights.

    Only configuration, tokenizer and safetensors files are ever fetched; code never.

    Raises:
        ModelNotFound: it is nowhere; the message says how to pass a folder.
        ModelFileMissing: the folder has no config.json.
        AdapterFolder: it holds an adapter of a model.
    """
    wanted = PRESETS[model].source if model in PRESETS else model
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        _check_folder(folder)
        if model in PRESETS:
            return ModelSource(folder, model, None)
        return ModelSource(folder, *_named(folder.resolve()))
    if not _HUB_ID.fullmatch(wanted):
        raise ModelNotFound(model, PRESETS)
    folder = _download(model, wanted, revision, _FIRST)
    _check_folder(folder)
    return ModelSource(folder, wanted, folder.name, hub=wanted)


def _check_folder(folder: Path) -> None:
    if (folder / "config.json").is_file():
        return
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        try:
            found = json.loads(adapter.read_text(encoding="utf-8"))
            kind, base = found.get("peft_type", "LoRA"), found["base_model_name_or_path"]
        except (OSError, ValueError, KeyError, AttributeError):
            kind, base = "LoRA", "an unnamed model"
        raise AdapterFolder(folder, str(kind), str(base))
    raise ModelFileMissing(folder, "config.json")


def _named(folder: Path) -> tuple[str, str | None]:
    """Id and revision of a local folder; one in the hub's cache has those of the hub."""
    cached = _CACHED.fullmatch("/".join(folder.parts[-3:]))
    if cached:
        return cached[1].replace("--", "/", 1), cached[2]
    return folder.name, None


def _shards(index: Path) -> list[str]:
    """Names in an index, those that cannot be file names left to ``Checkpoint`` to refuse."""
    try:
        found: Any = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return sorted({str(name) for name in found if re.fullmatch(r"[\w.-]+\.safetensors", str(name))})


def _listed(hub: str, revision: str | None) -> list[str]:
    """Names of a repository's files."""
    import huggingface_hub

    try:
        return sorted(huggingface_hub.list_repo_files(hub, revision=revision))
    except Exception as error:
        raise _not_found(hub, hub, error) from error


def _not_found(model: str, wanted: str, error: Exception) -> ModelNotFound:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    return ModelNotFound(model, PRESETS, f"from the hub, {wanted}: {reason}")


def _download(model: str, wanted: str, revision: str | None, names: list[str]) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(wanted, revision=revision, allow_patterns=names)
        )
    except Exception as error:  # no network, no such model, no licence accepted: many types
        raise _not_found(model, wanted, error) from error
