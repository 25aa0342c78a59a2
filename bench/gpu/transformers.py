"""Models of real size on the card: every engine against Hugging Face transformers, side by side.

The models are those of ``bench/real_model.py``, random weights behind CLIP-L/14-336: a decoder of
1.1 G parameters in float32, and LLaVA-1.5-7B's in float16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from ...errors import VtpError
from ...runtime.bundle.bundle import Bundle
from ...runtime.chat.pipeline import load
from ...runtime.engines import ENGINES, engine_class
from ...runtime.files.system_files import available_memory
from ..real_model import DECODER, LLAVA_7B_DECODER, make_real_model
from .engines import KEEPS, build_all, choices
from .skip import Skip, need_device

_REPEAT, _STEPS = 10, 32


@dataclass(frozen=True)
class _Size:
    name: str
    decoder: Mapping[str, int]
    dtype: str
    memory: float
    """Host memory that the export with its check takes, bytes."""


_SIZES = (
    _Size("1.1B", DECODER, "float32", 16e9),
    _Size("llava-7b", LLAVA_7B_DECODER, "float16", 70e9),
)


def run(work: Path, bundle: Path | None) -> dict[str, Any]:
    """Time to the first token, and decode."""
    need_device()
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError as error:
        raise Skip(f"torch and transformers are needed: {error}") from error
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for size in _SIZES:
        free = available_memory() or 0
        if free < size.memory:
            notes.append(
                f"{size.name}: left out, its export takes {size.memory / 1e9:.0f} GB of memory, "
                f"{free / 1e9:.0f} GB are free"
            )
            continue
        model, folder = _exported(size, work)
        notes += [f"{size.name}: {note}" for note in build_all(folder)]
        of_size = []
        if torch.cuda.is_available():
            of_size.append(_hugging_face(model, folder, size.dtype))
        else:
            notes.append("Hugging Face transformers: torch was built without CUDA")
        for name in ENGINES:
            if name == "cpu" or engine_class(name).missing() is not None:
                continue
            for choice in choices(name, folder, notes):
                try:
                    of_size += _ours(folder, name, choice)
                except VtpError as error:
                    notes.append(f"{size.name}, {name} ({choice}): {error}")
        rows += [{"model": f"{size.name}, {size.dtype}", **row} for row in of_size]
    return {"rows": rows, "notes": notes}


def _exported(size: _Size, work: Path) -> tuple[Path, Path]:
    from ...export import ExportOptions, export_model

    model = make_real_model(work / f"{size.name}-model", size.decoder)
    folder = work / size.name
    if not (folder / "manifest.json").is_file():
        options = ExportOptions(targets=("ort", "onnx"), dtype=size.dtype)
        export_model(str(model), folder, options)
    return model, folder


def _ours(folder: Path, name: str, choice: str) -> list[dict[str, Any]]:
    pipeline = load(folder, name, target=choice)
    golden = pipeline.bundle.manifest.golden
    image = pipeline.bundle.file(golden.image)
    rows = []
    for keep in KEEPS:
        results = [
            pipeline.generate(image, golden.prompt, keep=keep, max_new_tokens=_STEPS)
            for _ in range(_REPEAT + 1)
        ][1:]
        first = median(r.timings.ttft_ms for r in results)
        decode = median(r.timings.ms_per_token for r in results)
        rows.append(_row(f"{name} ({choice})", keep, first, decode))
    return rows


def _hugging_face(model: Path, folder: Path, dtype: str) -> dict[str, Any]:
    import torch
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    from ...runtime.media.images import load_image

    golden = Bundle(folder).manifest.golden
    image = load_image(Bundle(folder).file(golden.image))
    processor = AutoProcessor.from_pretrained(model)
    kind = getattr(torch, dtype)
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(model, dtype=kind)
    loaded = loaded.cuda()
    text = f"USER: <image>\n{golden.prompt} ASSISTANT:"

    def answer(steps: int) -> float:
        torch.cuda.synchronize()
        began = perf_counter()
        inputs = processor(images=image, text=text, return_tensors="pt").to("cuda", kind)
        with torch.inference_mode():
            loaded.generate(**inputs, max_new_tokens=steps, min_new_tokens=steps, do_sample=False)
        torch.cuda.synchronize()
        return (perf_counter() - began) * 1e3

    answer(2)
    first = median(answer(1) for _ in range(_REPEAT))
    whole = median(answer(_STEPS) for _ in range(_REPEAT))
    return _row("Hugging Face transformers", 1.0, first, (whole - first) / (_STEPS - 1))


def _row(name: str, keep: float, first: float, decode: float) -> dict[str, Any]:
    return {
        "engine": name,
        "keep": keep,
        "first token after, ms": f"{first:.1f}",
        "decode, ms per token": f"{decode:.2f}",
    }
