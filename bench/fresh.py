"""One side in a process of its own: time to load, time to a first whole answer, peak memory.

Started by ``compare``: ``python -m vtp.bench.fresh ours|hf FOLDER THREADS STEPS KEEP`` prints one
line of JSON. Peak memory is ``VmHWM`` of Linux, which counts mapped files too; elsewhere
``ru_maxrss``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any


def peak_rss() -> int:
    """Largest resident size of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


def measure(side: str, folder: Path, threads: int, steps: int, keep: float) -> dict[str, Any]:
    """Load, answer once; see the module."""
    started = perf_counter()
    run: Any
    if side == "ours":
        run = _ours(folder, threads, steps, keep)
    else:
        run = _hugging_face(folder, threads, steps)
    loaded = perf_counter()
    loaded_rss = peak_rss()
    answered = run()
    done = perf_counter()
    return {
        "load_s": loaded - started,
        "answer_s": done - loaded,
        "answered": answered,
        "loaded_rss": loaded_rss,
        "peak_rss": peak_rss(),
    }


def _ours(folder: Path, threads: int, steps: int, keep: float) -> Any:
    from ..runtime.chat.pipeline import load
    from ..runtime.media.images import load_image

    pipe = load(folder, "cpu", threads=threads)
    image = load_image(folder / pipe.bundle.manifest.golden.image)
    question = pipe.bundle.manifest.golden.prompt
    return lambda: len(pipe.generate(image, question, keep=keep, max_new_tokens=steps).tokens)


def _hugging_face(folder: Path, threads: int, steps: int) -> Any:
    import torch

    from ..export.plan.sample import sample_image
    from .sides import HuggingFace

    side = HuggingFace(folder, threads)
    with torch.inference_mode():
        image = sample_image()
        return lambda: _inference(side, image, steps)


def _inference(side: Any, image: Any, steps: int) -> int:
    import torch

    with torch.inference_mode():
        return int(side.answer(image, steps))


def main() -> None:
    """Command line."""
    side, folder, threads, steps, keep = sys.argv[1:]
    print(json.dumps(measure(side, Path(folder), int(threads), int(steps), float(keep))))


if __name__ == "__main__":
    main()
