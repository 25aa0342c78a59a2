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
    from . import errors
    from .runtime import Chat, Pipeline, Result, Settings, Video, load

__version__ = "0.1.0"
__all__ = ["Chat", "Pipeline", "Result", "Settings", "Video", "__version__", "errors", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'vtp' has no attribute {name!r}")
    from importlib import import_module

    if name == "errors":
        return import_module(".errors", __name__)
    return getattr(import_module(".runtime", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__} - {"Any", "TYPE_CHECKING", "annotations"})
