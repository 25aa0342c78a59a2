"""The runtime: loads a bundle and answers, with numpy, Pillow, tokenizers and an engine.

Never imports ``vtp.export``, torch, transformers or onnx.
"""

from __future__ import annotations

from .bundle.bundle import Bundle
from .bundle.keep import Keep, keep_count
from .chat.answer import Answer
from .chat.chat import Chat
from .chat.media import Video
from .chat.pipeline import Pipeline, load
from .chat.request import Request
from .chat.result import Result, Timings
from .chat.settings import Settings

__all__ = [
    "Answer",
    "Bundle",
    "Chat",
    "Keep",
    "Pipeline",
    "Request",
    "Result",
    "Settings",
    "Timings",
    "Video",
    "keep_count",
    "load",
]
