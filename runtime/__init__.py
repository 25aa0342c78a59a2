"""The runtime: loads a bundle and answers, with numpy, Pillow, tokenizers and an engine.

Never imports ``vtp.export``, torch, transformers or onnx.
"""

from __future__ import annotations

from .answer import Answer
from .bundle import Bundle
from .chat import Chat
from .keep import Keep, keep_count
from .media import Video
from .pipeline import Pipeline, load
from .result import Result, Timings

__all__ = [
    "Answer",
    "Bundle",
    "Chat",
    "Keep",
    "Pipeline",
    "Result",
    "Timings",
    "Video",
    "keep_count",
    "load",
]
