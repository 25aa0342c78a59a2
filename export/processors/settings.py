"""What the settings files of all of Hugging Face's image processors have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.preprocessing.checks import Rule, problem
from ...runtime.preprocessing.levels import is_number

# Pillow's filter codes.
RESAMPLE_CODES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "default_to_square": False,
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "do_pad": False,
}
"""Class attributes of ``CLIPImageProcessorPil`` and ``LlavaImageProcessorPil``."""


def levels_from(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The fields ``resample``, ``rescale``, ``mean`` and ``std``.

    Args:
        settings: Of a processor, with its defaults filled in.

    Raises:
        ModelNotSupported: Another filter, or not one value for each channel.
    """
    resample = settings["resample"]
    if not isinstance(resample, int) or resample not in RESAMPLE_CODES:
        raise ModelNotSupported(
            f"resample {resample!r} of the image processor",
            [f"{code} ({name})" for code, name in RESAMPLE_CODES.items()],
        )
    normalize = bool(settings["do_normalize"])
    return {
        "resample": RESAMPLE_CODES[resample],
        "rescale": settings["rescale_factor"] if settings["do_rescale"] else 1.0,
        "mean": three(settings, "image_mean") if normalize else (0.0, 0.0, 0.0),
        "std": three(settings, "image_std") if normalize else (1.0, 1.0, 1.0),
    }


def background_from(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """The colour (red, green, blue; 0..255) with which LLaVA makes an image square."""
    return tuple(int(value * 255) for value in three(settings, "image_mean"))


def settings_from(
    config: Mapping[str, Any], defaults: Mapping[str, Any], types: tuple[str, ...]
) -> dict[str, Any]:
    """A processor's settings, with its defaults filled in.

    Raises:
        ModelNotSupported: The configuration is of a processor that is none of ``types``.
    """
    kind = config.get("image_processor_type", config.get("feature_extractor_type"))
    if kind not in types:
        raise ModelNotSupported(f"image processor {kind!r}", types[:1])
    return {**defaults, **{key: config[key] for key in defaults if key in config}}


def edges(name: str, size: Any, *, square: bool) -> int | tuple[int, int]:
    """``(height, width)``, or an int for the shortest edge; as transformers' ``get_size_dict``."""
    if isinstance(size, Mapping):
        if set(size) == {"height", "width"}:
            return size["height"], size["width"]
        if set(size) == {"shortest_edge"} and name == "size":
            edge: int = size["shortest_edge"]
            return edge
    elif isinstance(size, list | tuple) and len(size) == 2:
        return size[0], size[1]
    elif isinstance(size, int):
        return (size, size) if square else size
    accepted = ["a number", "{height, width}"] + ["{shortest_edge}"] * (name == "size")
    raise ModelNotSupported(f"{name} {size!r} of the image processor", accepted)


def three(settings: Mapping[str, Any], name: str) -> tuple[float, ...]:
    """One value for each channel: a single number stands for all three."""
    value = settings[name]
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * 3
    if len(values) != 3 or not all(map(is_number, values)):
        raise ModelNotSupported(f"{name} {value!r} of the image processor", ["three numbers"])
    return values


def check_model(values: Mapping[str, Any], rules: Sequence[Rule]) -> None:
    """Refuse settings of a model.

    Raises:
        ModelNotSupported: A value is not right.
    """
    if found := problem(values, rules):
        field, accepted = found
        raise ModelNotSupported(f"image processor setting {field} = {values[field]!r}", [accepted])
