"""The preprocessing of one image to one input, called as before ``vtp.runtime.preprocessing``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .images import DEFAULT_MAX_PIXELS, load_image
from .preprocessing import fixed

__all__ = ["DEFAULT_MAX_PIXELS", "ImagePreprocessor", "load_image"]


@dataclass(frozen=True, kw_only=True)
class ImagePreprocessor(fixed.ImagePreprocessor):
    """``fixed.ImagePreprocessor`` whose call takes images, and whose grid is told by the plan."""

    grid: tuple[int, int] = (1, 1)

    def __call__(  # type: ignore[override]
        self, images: Sequence[Image.Image]
    ) -> np.ndarray:
        """See ``fixed.ImagePreprocessor.pixels``."""
        return self.pixels(images)

    @classmethod
    def from_hf_config(  # type: ignore[override]
        cls, config: Mapping[str, Any]
    ) -> ImagePreprocessor:
        """See ``fixed.ImagePreprocessor``."""
        read = super().from_hf_config(config, (1, 1))
        assert isinstance(read, cls)
        return read
