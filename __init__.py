"""vtp: run vision-language models with pruned image tokens on edge devices.

``vtp.load(folder)`` opens a bundle that ``vtp export`` wrote::

    import vtp

    pipeline = vtp.load("out/tiny")
    print(pipeline.generate("scene.png", "how many objects are there?", keep=0.1).text)

Importing ``vtp`` imports nothing else; ``vtp.load`` brings in the runtime (numpy, Pillow,
tokenizers), ``vtp.export`` needs the ``export`` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .runtime import Pipeline, Result, Video, load

__version__ = "0.1.0"
__all__ = ["Pipeline", "Result", "Video", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Pipeline", "Result", "Video", "load"):
        from . import runtime

        return getattr(runtime, name)
    raise AttributeError(f"module 'vtp' has no attribute {name!r}")
