"""The selection kernel: right on every case, and how far from the floor.

The floor is the time to move what must be moved: the scores once, the kept rows once in and once
out, the indices, at the bandwidth that a device-to-device copy reaches here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from ...runtime.engines.cuda_memory import Cuda, DeviceBuffer
from ...trt_plugins.launch import TopKTokensKernel
from ...trt_plugins.topk_tokens import CASES, topk_tokens
from .skip import need_device

_SIZES = (
    # tokens, kept, width: LLaVA-1.5's tower and decoder, any-resolution tiles, and the largest.
    (576, 58, 1024),
    (576, 288, 4096),
    (2880, 288, 4096),
    (16384, 1638, 4096),
)
_REPEAT = 50
_COPY_BYTES = 2**28


def run(work: Path, bundle: Path | None) -> dict[str, Any]:
    """Cases, then times."""
    need_device()
    cuda, kernel = Cuda("kernel check"), TopKTokensKernel()
    checked = sum(_cases(cuda, kernel, dtype) for dtype in (np.float32, np.float16))
    bandwidth = _bandwidth(cuda)
    rows = [_row(cuda, kernel, bandwidth, *size) for size in _SIZES]
    return {
        "rows": rows,
        "notes": [
            f"{checked} cases equal the NumPy reference, indices and bytes",
            f"bandwidth of a copy within the device: {bandwidth / 1e9:.0f} GB/s, read and write",
        ],
    }


def _cases(cuda: Cuda, kernel: TopKTokensKernel, dtype: type) -> int:
    for case in CASES:
        for dim in (3, 4):
            tokens = case.tokens(dim, dtype)
            want_tokens, want = topk_tokens(tokens, case.scores, case.keep)
            got_tokens, got = _select(cuda, kernel, tokens, case.scores, case.keep)
            if not (np.array_equal(want, got) and np.array_equal(want_tokens, got_tokens)):
                raise AssertionError(f"case {case.name!r} in {dtype.__name__}: kept {got}")
    return 2 * len(CASES)


def _select(
    cuda: Cuda, kernel: TopKTokensKernel, tokens: np.ndarray, scores: np.ndarray, keep: int
) -> tuple[np.ndarray, np.ndarray]:
    launch, kept_tokens, kept = _prepared(cuda, kernel, tokens, scores, keep)
    launch()
    return kept_tokens.read(), kept.read()


def _prepared(
    cuda: Cuda, kernel: TopKTokensKernel, tokens: np.ndarray, scores: np.ndarray, keep: int
) -> tuple[Callable[[], None], DeviceBuffer, DeviceBuffer]:
    batch, n, dim = tokens.shape
    given = DeviceBuffer(cuda, tokens.shape, tokens.dtype.name)
    ranked = DeviceBuffer(cuda, scores.shape, "float32")
    given.write(tokens)
    ranked.write(scores)
    kept_tokens = DeviceBuffer(cuda, (batch, keep, dim), tokens.dtype.name)
    kept = DeviceBuffer(cuda, (batch, keep), "int64")

    def launch() -> None:
        kernel.launch(
            given.address,
            ranked.address,
            kept_tokens.address,
            kept.address,
            batch=batch,
            n=n,
            k=keep,
            row_bytes=dim * tokens.dtype.itemsize,
            stream=cuda.stream,
        )

    return launch, kept_tokens, kept


def _row(
    cuda: Cuda, kernel: TopKTokensKernel, bandwidth: float, n: int, keep: int, dim: int
) -> dict[str, Any]:
    random = np.random.default_rng(0)
    tokens = random.normal(size=(1, n, dim)).astype(np.float16)
    scores = random.normal(size=(1, n)).astype(np.float32)
    launch, _, _ = _prepared(cuda, kernel, tokens, scores, keep)
    ours = _microseconds(cuda, launch)
    floor = (4 * n + 2 * keep * dim * 2 + 8 * keep) / bandwidth * 1e6
    theirs = _torch(tokens, scores, keep)
    return {
        "tokens": n,
        "kept": keep,
        "width, float16": dim,
        "kernel, us": f"{ours:.1f}",
        "floor, us": f"{floor:.1f}",
        "times the floor": f"{ours / floor:.1f}",
        "torch topk, sort, gather, us": f"{theirs:.1f}" if theirs else "no torch with CUDA",
        "torch / kernel": f"{theirs / ours:.1f}" if theirs else "",
    }


def _microseconds(cuda: Cuda, launch: Callable[[], None]) -> float:
    """Median of the time between events around a replay of ten launches, by launch.

    Replayed as a CUDA graph: launched from Python one by one, the host would be timed.
    """
    launch()
    cuda.synchronize()
    cuda.begin_capture()
    for _ in range(10):
        launch()
    captured = cuda.end_capture()
    if captured is None:
        raise RuntimeError("the launches could not be captured as a CUDA graph")
    return median(cuda.elapsed_ms(lambda: cuda.replay(captured), 1) * 100 for _ in range(_REPEAT))


def _bandwidth(cuda: Cuda) -> float:
    """Bytes read and written by the second, of a copy within the device."""
    a, b = (DeviceBuffer(cuda, (_COPY_BYTES,), "uint8") for _ in range(2))
    copy = lambda: cuda.copy(a.address, b.address, _COPY_BYTES)  # noqa: E731
    copy()
    return 2 * _COPY_BYTES / min(cuda.elapsed_ms(copy, 5) / 5e3 for _ in range(10))


def _torch(tokens: np.ndarray, scores: np.ndarray, keep: int) -> float | None:
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    given, ranked = torch.from_numpy(tokens).cuda(), torch.from_numpy(scores).cuda()

    def select() -> Any:
        kept = torch.topk(ranked, keep, dim=1, sorted=False).indices.sort(dim=1).values
        return torch.take_along_dim(given, kept[..., None], dim=1)

    select()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(10):
            select()
    times = []
    for _ in range(_REPEAT):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 100)
    return median(times)
