"""Which frames of a video a model takes.

Sources, all in ``transformers``: ``default_sample_indices_fn`` in ``video_utils.py`` (rule
``start``), ``models/internvl/video_processing_internvl.py`` (``middle``) and
``models/qwen2_vl/video_processing_qwen2_vl.py`` (``groups``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ManifestInvalid, VideoUnreadable
from ..files import strict

MAX_FRAMES = 768
"""Most frames that are taken of one video, whatever is asked for."""

MAX_FPS = 1000
"""Most frames that are taken of one second."""

RULES = ("start", "middle", "groups")


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """Frames spread evenly over a video; of fewer frames than asked for, all are taken.

    Raises:
        ManifestInvalid: A field has a wrong value.
    """

    count: int | None = None
    """Frames to take; None: as many as ``fps`` gives."""
    fps: float | None = None
    """Frames for each second of the video, where ``count`` is None."""
    rule: str = "start"
    """Frames at the start of equal parts of the video, in the middle of the parts, or at the start
    with a count rounded to whole groups of ``group``."""
    group: int = 1
    """Frames that the model takes as one."""
    least: int = 1
    """Least frames where ``fps`` decides."""
    most: int = MAX_FRAMES
    """Most frames."""

    def __post_init__(self) -> None:
        def refuse(field: str, accepted: str) -> None:
            raise ManifestInvalid(
                f"preprocess.sampling.{field}",
                f"{getattr(self, field)!r} is not accepted: give {accepted}",
            )

        if self.count is None and self.fps is None:
            refuse("count", "a count of frames, or fps")
        if self.count is not None and not 1 <= self.count <= MAX_FRAMES:
            refuse("count", f"a whole number of frames in 1..{MAX_FRAMES}")
        if self.fps is not None and not 0 < self.fps <= MAX_FPS:
            refuse("fps", f"a number of frames above 0 and up to {MAX_FPS}")
        if self.rule not in RULES:
            refuse("rule", f"one of {', '.join(RULES)}")
        if not 1 <= self.group <= 16:
            refuse("group", "a whole number of frames in 1..16")
        if not 1 <= self.least <= self.most <= MAX_FRAMES:
            refuse(
                "most", f"a whole number of frames in least..{MAX_FRAMES}, least being 1 or more"
            )

    @classmethod
    def from_dict(cls, data: object, where: str) -> FrameSampling:
        """Read the JSON form, strictly.

        Raises:
            ManifestInvalid: naming the entry and what is wrong with it.
        """
        return strict.read(cls, data, where)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return dict(vars(self))

    def indices(self, total: int, fps: float | None = None, name: str = "the video") -> np.ndarray:
        """Which frames are taken.

        Args:
            total: Frames of the video.
            fps: Frames of the video for each of its seconds; None where it is not known.
            name: What errors call the video.

        Returns:
            ``(frames,)`` int64, ascending, each in 0..total-1.

        Raises:
            VideoUnreadable: The video has no frames, or ``fps`` is needed and not known.
        """
        if total < 1:
            raise VideoUnreadable(name, "it has no frames")
        if self.count is None and fps is None:
            raise VideoUnreadable(
                name, "it does not say its frames per second; give a count of frames"
            )
        count = self._count(total, fps or 1.0)
        if self.rule == "start":
            return np.arange(count, dtype=np.int64) * total // count
        step = total / count
        start = step / 2 if self.rule == "middle" else 0.0
        # torch.arange(start, total, step).int(): computed in float64, rounded to float32, cut.
        # Where rounding gives it one place more, that is behind the last frame, and not read.
        places = (start + np.arange(count) * step).astype(np.float32)
        return np.minimum(places.astype(np.int64), total - 1)

    def _count(self, total: int, fps: float) -> int:
        group = self.group if self.rule == "groups" else 1
        most = min(self.most, total)
        if self.count is not None:
            count = round(self.count / group) * group
            return max(1, min(count, most))
        asked = total / fps * (self.fps or 0.0)
        if self.rule != "groups":
            return max(1, min(max(int(asked), self.least), most))
        most = max(1, most // group * group)
        return max(1, math.floor(min(max(asked, self.least), most) / group) * group)
