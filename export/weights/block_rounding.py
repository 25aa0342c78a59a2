"""Weights of few bits: round to nearest, block by block along the input of a linear layer.

A matrix ``(out, in)`` becomes whole numbers, one scale for each block of ``block`` inputs of an
output and, where it is not symmetric, one zero point: ``weight = scale * (number - zero)``. What is
stored is what ONNX's block-wise ``DequantizeLinear`` (operator set 21, axis 0) reads::

    values (in, out)            int4 or int8; not symmetric: uint4 or uint8
    scales (in / block, out)    the type of the other weights
    zeros  (in / block, out)    the type of the values; none where it is symmetric

with two numbers of four bits in a byte, the first in the lower half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import NotQuantizable
from ...runtime.bundle.manifest import WeightsRecord

_CHUNK = 1 << 22
"""Numbers quantized at a time, so that one matrix does not need several times its memory."""


@dataclass(frozen=True)
class QuantizedMatrix:
    """One matrix, as stored."""

    values: np.ndarray
    """``(in, out)`` one byte each, or ``(in, out / 2)`` of two numbers."""
    scales: np.ndarray
    """``(in / block, out)``."""
    zeros: np.ndarray | None
    """``(in / block, out)`` or ``(in / block, out / 2)``."""


def quantize(weight: np.ndarray, how: WeightsRecord, dtype: np.dtype) -> QuantizedMatrix:
    """Round a matrix ``(out, in)`` to the nearest numbers of each block.

    Symmetric: the scale is the smallest by which both ends of the block fit into
    ``-2^(bits-1) .. 2^(bits-1) - 1``. Not symmetric: the range of the block, made to hold 0, is
    spread over ``0 .. 2^bits - 1``. Scales are rounded to ``dtype`` first, so that the numbers fit
    the scale that is stored.

    Args:
        weight: float32; see ``check_shape``.
        how: bits, block, symmetry.
        dtype: type of the scales.
    """
    outputs, inputs = weight.shape
    kind = np.int8 if how.symmetric else np.uint8
    values = np.empty((inputs, outputs * how.bits // 8), kind)
    scales = np.empty((inputs // how.block, outputs), dtype)
    zeros = None
    if not how.symmetric:
        zeros = np.empty((inputs // how.block, outputs * how.bits // 8), kind)
    step = max(2, _CHUNK // inputs // 2 * 2)  # even: two outputs share a byte
    for first in range(0, outputs, step):
        rows = slice(first, min(first + step, outputs))
        packed = slice(rows.start * how.bits // 8, rows.stop * how.bits // 8)
        blocks = (
            weight[rows].astype(np.float32, copy=False).reshape(-1, inputs // how.block, how.block)
        )
        numbers, scale, zero = _round(blocks, how, dtype)
        values[:, packed] = _packed(numbers.reshape(-1, inputs).T, how.bits)
        scales[:, rows] = scale.T
        if zeros is not None and zero is not None:
            zeros[:, packed] = _packed(zero.T, how.bits)
    return QuantizedMatrix(values, scales, zeros)


def dequantize(quantized: QuantizedMatrix, how: WeightsRecord) -> np.ndarray:
    """The matrix ``(out, in)`` float32 that the graphs multiply with."""
    scales = quantized.scales.astype(np.float32)
    values = _unpacked(quantized.values, how).astype(np.float32)
    blocks = values.reshape(len(scales), how.block, -1)
    if quantized.zeros is not None:
        blocks -= _unpacked(quantized.zeros, how)[:, None]
    blocks *= scales[:, None]
    return np.ascontiguousarray(blocks.reshape(values.shape).T)


def check_shape(name: str, outputs: int, inputs: int, how: WeightsRecord) -> None:
    """Refuse a matrix that does not split into whole blocks and whole bytes.

    Raises:
        NotQuantizable: naming it, and what fits.
    """
    if inputs % how.block:
        raise NotQuantizable(name, (outputs, inputs), f"blocks of {how.block}", "inputs")
    if outputs * how.bits % 8:
        raise NotQuantizable(name, (outputs, inputs), "bytes of two numbers", "outputs")


def _round(
    blocks: np.ndarray, how: WeightsRecord, dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Numbers, scales and zero points of blocks ``(rows, blocks, block)``."""
    # An empty block may have any scale, but TensorRT takes positive ones only.
    least = _smallest(dtype)
    if how.symmetric:
        top = 2 ** (how.bits - 1) - 1
        scale = np.maximum(blocks.max(axis=2) / top, -blocks.min(axis=2) / (top + 1))
        scale = np.maximum(scale, least).astype(dtype)
        numbers = np.rint(blocks / scale.astype(np.float32)[..., None])
        return np.clip(numbers, -top - 1, top).astype(np.int8), scale, None
    top = 2**how.bits - 1
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    scale = np.maximum((high - low) / top, least).astype(dtype)
    wide = scale.astype(np.float32)
    zero = np.clip(np.rint(-low / wide), 0, top)
    numbers = np.clip(np.rint(blocks / wide[..., None]) + zero[..., None], 0, top)
    return numbers.astype(np.uint8), scale, zero.astype(np.uint8)


def _smallest(dtype: np.dtype) -> float:
    """The smallest normal number of a type."""
    if dtype.kind == "f":
        return float(np.finfo(dtype).tiny)
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).tiny)


def _packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    """Bytes of whole numbers, along the last axis."""
    if bits == 8:
        return numbers
    half = numbers.view(np.uint8) & 0xF
    return (half[:, 0::2] | half[:, 1::2] << 4).view(numbers.dtype)


def _unpacked(packed: np.ndarray, how: WeightsRecord) -> np.ndarray:
    if how.bits == 8:
        return packed
    halves = np.stack((packed.view(np.uint8) & 0xF, packed.view(np.uint8) >> 4), axis=2)
    numbers = halves.reshape(len(packed), -1)
    if how.symmetric:
        return ((numbers ^ 8).astype(np.int8) - 8).astype(np.int8)
    return numbers
