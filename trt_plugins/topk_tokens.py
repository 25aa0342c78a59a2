"""``vtp::TopKTokens``: keep the tokens with the highest scores, in their original order.

    (tokens (batch, n, dim), scores (batch, n) float32, keep (1,) int64)
        -> (kept tokens (batch, k, dim), kept indices (batch, k) int64)

For each row of the batch by itself:

1. Scores are compared as IEEE 754 float32: not rounded to fewer bits, subnormals not flushed to
   zero, -0.0 equal to 0.0.
2. A higher score comes first; NaN comes last, below minus infinity.
3. Of equal scores (two NaN count as equal) the lower index comes first.
4. The first k = keep tokens are kept, and put out in ascending order of their indices.

1 <= k <= n. Tokens are copied bit by bit, of whatever type they are.

Every implementation (this one, the function body in ONNX, the plugin) answers to ``CASES``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DOMAIN = "vtp"
OP_TYPE = "TopKTokens"
VERSION = "1"


def topk_tokens(
    tokens: np.ndarray, scores: np.ndarray, keep: int | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The operator in NumPy, for reference.

    Args:
        tokens: ``(batch, n, dim)`` of any type.
        scores: ``(batch, n)`` float32, higher is more important.
        keep: k, as an int or as ``(1,)`` int64.

    Returns:
        Kept tokens ``(batch, k, dim)`` of the type given, their indices ``(batch, k)`` int64.

    Raises:
        ValueError: Shapes or types that do not fit, or k outside 1..n.
    """
    if scores.ndim != 2 or scores.dtype != np.float32:
        raise ValueError(
            f"scores are {scores.dtype} of shape {scores.shape}; give float32 (batch, n)"
        )
    if tokens.ndim != 3 or tokens.shape[:2] != scores.shape:
        raise ValueError(
            f"tokens have the shape {tokens.shape}, scores {scores.shape}; "
            "give (batch, n, dim) and (batch, n)"
        )
    count = np.asarray(keep)
    if count.shape not in ((), (1,)) or not np.issubdtype(count.dtype, np.integer):
        raise ValueError(f"keep is {keep!r}; give one whole number")
    k, n = int(count.reshape(())), scores.shape[1]
    if not 1 <= k <= n:
        raise ValueError(f"keep is {k}; give a count in 1..{n}, the number of tokens")
    # NumPy sorts NaN behind all numbers; stable keeps equal scores in order of their indices.
    ranked = np.argsort(-scores, axis=1, kind="stable")
    kept = np.sort(ranked[:, :k], axis=1).astype(np.int64)
    return np.take_along_axis(tokens, kept[:, :, None], axis=1), kept


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One row of scores, or several, and what must be kept of it."""

    name: str
    """Says what is tested; unique."""
    scores: np.ndarray
    """``(batch, n)`` float32."""
    keep: int
    """k."""
    expected: np.ndarray
    """``(batch, k)`` int64, ascending in each row."""

    def tokens(self, dim: int = 3, dtype: type = np.float32) -> np.ndarray:
        """Tokens ``(batch, n, dim)`` to go with the scores; from ``dim`` 3 on, no two are alike.

        Whole numbers below 128 (index and row in digits of base 128): exact in any type.
        """
        row, index = np.indices(self.scores.shape)
        digits = np.stack([index % 128, index // 128, row], axis=-1)
        return digits[..., np.arange(dim) % 3].astype(dtype)


def _case(
    name: str,
    scores: Sequence[float] | Sequence[Sequence[float]] | np.ndarray,
    keep: int,
    expected: Sequence[int] | Sequence[Sequence[int]] | np.ndarray,
) -> Case:
    arrays = (
        np.atleast_2d(np.array(scores, np.float32)),
        np.atleast_2d(np.array(expected, np.int64)),
    )
    for array in arrays:
        array.setflags(write=False)
    return Case(name=name, scores=arrays[0], keep=keep, expected=arrays[1])


def _large_cases() -> tuple[Case, ...]:
    """More tokens than fit a block of threads; what is kept is known by construction."""
    random = np.random.default_rng(0)
    n, keep = 5000, 1234
    distinct = random.permutation(n).astype(np.float32)
    high = np.sort(random.permutation(n)[: keep // 2])
    tied = np.zeros(n, np.float32)
    tied[high] = 1.0
    zeros = np.flatnonzero(tied == 0)[: keep - len(high)]
    return (
        _case("large, distinct", distinct, keep, np.flatnonzero(distinct >= n - keep)),
        _case("large, ties at the border", tied, keep, np.union1d(high, zeros)),
        _case("large, all equal", np.zeros(n), keep, np.arange(keep)),
        _case("large, keep all but one", -distinct, n - 1, np.flatnonzero(distinct < n - 1)),
    )


_INF, _NAN = float("inf"), float("nan")
# Scores as a float16 graph delivers them: the first three have become one.
_FLOAT16 = np.array([0.09998, 0.1, 0.09999, 0.1002, 0.0998], np.float16).astype(np.float32)

CASES: tuple[Case, ...] = (
    _case("distinct", [0.1, 0.5, 0.3, 0.4, 0.2], 3, [1, 2, 3]),
    _case("original order, not order of scores", [1, 2, 3, 4], 2, [2, 3]),
    _case("descending scores", [4, 3, 2, 1], 2, [0, 1]),
    _case("negative scores", [-3, -1, -2, -4], 2, [1, 2]),
    _case("keep 1", [0.2, 0.9, 0.4], 1, [1]),
    _case("keep 1 of tied highest", [0.2, 0.9, 0.9], 1, [1]),
    _case("keep all", [3, 1, 2], 3, [0, 1, 2]),
    _case("one token", [0.0], 1, [0]),
    _case("tie at the border", [1, 2, 1, 2, 1], 3, [0, 1, 3]),
    _case("tie above the border", [5, 1, 5, 0], 2, [0, 2]),
    _case("all equal", [7, 7, 7, 7, 7, 7], 4, [0, 1, 2, 3]),
    _case("negative zero equals zero", [-0.0, 0.0, -0.0, 0.0], 2, [0, 1]),
    _case("negative zero between", [0.0, -0.0, 1.0, -1.0], 2, [0, 2]),
    _case("plus infinity", [1, _INF, 2, _INF], 2, [1, 3]),
    _case("plus infinity tied", [1, _INF, _INF], 1, [1]),
    _case("minus infinity last", [-_INF, -1e38, -_INF, 0], 2, [1, 3]),
    _case("minus infinity tied", [-_INF, 1, -_INF, -_INF], 3, [0, 1, 2]),
    _case("largest finite below infinity", [3.4028235e38, _INF, 1], 1, [1]),
    _case("NaN below numbers", [_NAN, -5, 0, _NAN, -6], 3, [1, 2, 4]),
    _case("NaN not above infinity", [_NAN, _INF, 1], 1, [1]),
    _case("NaN below minus infinity", [_NAN, -_INF, 1, -_INF], 3, [1, 2, 3]),
    _case("negative NaN is a NaN", [np.copysign(_NAN, -1), -_INF, 1], 2, [1, 2]),
    _case("NaN tied", [_NAN, 1, _NAN, _NAN], 3, [0, 1, 2]),
    _case("all NaN", [_NAN, _NAN, _NAN], 2, [0, 1]),
    _case("ties from float16", _FLOAT16, 2, [0, 3]),
    _case("distinct only in float32", [1.0, 1.0001, 1.0002, 1.0], 2, [1, 2]),
    _case("one unit in the last place", [1.0, np.nextafter(np.float32(1), np.float32(2))], 1, [1]),
    _case("subnormals", [0.0, 1e-45, 3e-45, -1e-45], 2, [1, 2]),
    _case("subnormal above zero", [0.0, -0.0, 1e-40, -1e-40], 1, [2]),
    _case("negative subnormal below zero", [-1e-40, 0.0, -1e-45], 2, [1, 2]),
    _case("two rows", [[3, 1, 2], [1, 2, 3]], 2, [[0, 2], [1, 2]]),
    _case("two rows, one all NaN", [[_NAN] * 3, [1.0, 1.0, 2.0]], 2, [[0, 1], [0, 2]]),
    *_large_cases(),
)
