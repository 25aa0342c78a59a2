"""Reads the settings of Hugging Face's CLIP, SigLIP, LLaVA and Video-LLaVA image processors.

A missing key gets the default of the class; a null does not: as a flag it means off, as another
setting it is an error where it is needed. Keys that those processors ignore are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from .levels import is_number

CLIP_TYPES = (
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPImageProcessorPil",
    "CLIPFeatureExtractor",
)
SIGLIP_TYPES = ("SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil")
LLAVA_TYPES = ("LlavaImageProcessor", "LlavaImageProcessorFast", "LlavaImageProcessorPil")
VIDEO_LLAVA_TYPES = ("VideoLlavaImageProcessor",)
VIDEO_LLAVA_FRAMES = 8
"""Frames that Video-LLaVA was trained on, and takes where its configuration names no other."""

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
SIGLIP_DEFAULTS: dict[str, Any] = DEFAULTS | {
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
"""Class attributes of ``SiglipImageProcessorPil``, where they differ."""


def fields_from_hf_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an ``ImagePreprocessor``; their ranges are for its own checks.

    Args:
        config: The contents of a ``preprocessor_config.json``. Without a type it is taken as
            CLIP's, as ``CLIPImageProcessor.from_pretrained`` does.

    Raises:
        ModelNotSupported: Another image processor, or settings that cannot be reproduced: padding
            of a batch, a limit on the longest edge, or a model input whose size is not fixed.
    """
    kind = config.get("image_processor_type", config.get("feature_extractor_type", CLIP_TYPES[0]))
    if kind not in CLIP_TYPES + SIGLIP_TYPES + LLAVA_TYPES + VIDEO_LLAVA_TYPES:
        accepted = (CLIP_TYPES[0], SIGLIP_TYPES[0], LLAVA_TYPES[0], VIDEO_LLAVA_TYPES[0])
        raise ModelNotSupported(f"image processor {kind!r}", accepted)
    video = kind in VIDEO_LLAVA_TYPES
    defaults = SIGLIP_DEFAULTS if kind in SIGLIP_TYPES else DEFAULTS
    settings = defaults | {key: config[key] for key in defaults if key in config}
    if config.get("use_square_size") and kind in CLIP_TYPES:
        settings["size"] = {"height": 224, "width": 224}

    pad = None
    if settings["do_pad"]:
        if kind not in LLAVA_TYPES:
            raise ModelNotSupported(f"do_pad of {kind}", ["do_pad of LLaVA's"])
        pad = background_from(settings)

    resize = "none"
    resize_to: int | tuple[int, int] | None = None
    if settings["do_resize"]:
        resize_to = edges("size", settings["size"], square=settings["default_to_square"])
        resize = "exact" if isinstance(resize_to, tuple) else "shortest_edge"

    crop = bool(settings["do_center_crop"])
    seen = edges("crop_size", settings["crop_size"], square=True) if crop else resize_to
    if not isinstance(seen, tuple):
        raise ModelNotSupported(
            "an image processor whose output is not of one fixed size",
            ["do_center_crop with a crop_size", "do_resize to a height and width"],
        )
    if resize_to is None:
        settings["resample"] = DEFAULTS["resample"]
    return levels_from(settings) | {
        "height": seen[0],
        "width": seen[1],
        "resize": resize,
        "resize_to": resize_to,
        "crop": crop,
        "pad_to_square": pad,
        "video_cls": video,
    }


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
