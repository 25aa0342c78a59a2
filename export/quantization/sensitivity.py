"""How much each part of a graph suffers from rounding, alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from ...runtime.bundle.contract import IMAGE_EMBEDS, KEPT, is_cache
from .qdq import units


def sensitivity(
    path: Path,
    feeds: Sequence[Mapping[str, np.ndarray]],
    quantized: Callable[[Collection[str]], onnx.ModelProto],
    done: Callable[[str], None],
) -> dict[str, float]:
    """Quantize one part after another, each alone, and compare what comes out.

    Args:
        path: the graph.
        feeds: inputs of some of its runs.
        quantized: makes the graph with all products quantized but those of the given names.
        done: told of every part.

    Returns:
        Part of ``units`` -> the largest relative error of an output of floats but the caches,
        ``|rounded - exact| / |exact|``, mean over the feeds. Image tokens are compared where both
        kept them: another token instead of one that scores alike is no error.
    """
    exact = [_run(path, feed) for feed in feeds]
    parts, found = units(path), {}
    for part in parts:
        left = [name for other, names in parts.items() if other != part for name in names]
        with tempfile.TemporaryDirectory() as folder:
            rounded = Path(folder) / path.name
            onnx.save(quantized(left), rounded, save_as_external_data=True, location="weights")
            errors = [
                _error(want, _run(rounded, feed)) for want, feed in zip(exact, feeds, strict=True)
            ]
        found[part] = float(np.mean(errors))
        done(part)
    return found


def _run(path: Path, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    # As numbers that stand for floats: some forms have no kernel on the processor.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [
        value.name
        for value in session.get_outputs()
        if value.type in ("tensor(float)", "tensor(float16)", "tensor(int64)")
        and not is_cache(value.name)
    ]
    values = session.run(names, {value.name: feed[value.name] for value in session.get_inputs()})
    return dict(zip(names, values, strict=True))


def _error(want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray]) -> float:
    errors = []
    for name, exact in want.items():
        if exact.dtype.kind != "f":
            continue
        pair = exact.astype(np.float64), got[name].astype(np.float64)
        if name == IMAGE_EMBEDS and KEPT in want:
            pair = _common(pair, (want[KEPT], got[KEPT]))
        norm = float(np.linalg.norm(pair[0]))
        errors.append(float(np.linalg.norm(pair[1] - pair[0])) / max(norm, 1e-12))
    return max(errors, default=0.0)


def _common(
    embeds: tuple[np.ndarray, np.ndarray], kept: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows ``(n, width)`` of the tokens that are in both of ``kept (images, keep)``."""
    rows: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for *pair, first, second in zip(*embeds, *kept, strict=True):
        _, a, b = np.intersect1d(first, second, return_indices=True)
        for side, of_image, places in zip(rows, pair, (a, b), strict=True):
            side.append(of_image[places])
    return np.concatenate(rows[0]), np.concatenate(rows[1])
