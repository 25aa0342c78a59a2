"""Reads the settings of Hugging Face's CLIP, SigLIP, LLaVA and Video-LLaVA image processors.

A missing key gets the default of the class; a null does not: as a flag it means off, as another
setting it is an error where it is needed. Keys that those processors ignore are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ModelNotSupported
from ...runtime.preprocessing.fixed import ImagePreprocessor, rules
from .settings import DEFAULTS, background_from, check_model, edges, levels_from
from .video import sampling_from

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


SIGLIP_DEFAULTS: dict[str, Any] = DEFAULTS | {
    "size": {"height": 224, "width": 224},
    "do_center_crop": False,
    "image_mean": (0.5, 0.5, 0.5),
    "image_std": (0.5, 0.5, 0.5),
}
"""Class attributes of ``SiglipImageProcessorPil``, where they differ."""


def fixed_preprocessor(
    config: Mapping[str, Any],
    grid: tuple[int, int],
    *,
    video: Mapping[str, Any] | None = None,
) -> ImagePreprocessor:
    """Read the contents of a ``preprocessor_config.json`` of CLIP, SigLIP or (Video-)LLaVA.

    Args:
        config: The file's contents.
        grid: Rows and columns of the image tokens of one tile.
        video: The contents of ``video_preprocessor_config.json``, where there is one.

    Raises:
        ModelNotSupported: A processor, flag or value that cannot be reproduced here.
    """
    values = _fields(config)
    if values["video_cls"]:
        # Both processors have the same settings, with the same defaults.
        clip = config if video is None else video
        kind = {"image_processor_type": config["image_processor_type"]}
        if _fields({**clip, **kind}) != values:
            raise ModelNotSupported(
                "a video processor that resizes, crops or normalizes differently from the image "
                "processor",
                ["the same settings in both"],
            )
        values["sampling"] = sampling_from(clip, count=VIDEO_LLAVA_FRAMES)
    values["grid"] = grid
    check_model(values, rules(values))
    return ImagePreprocessor(**values)


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
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
