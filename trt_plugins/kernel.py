"""The Triton source of the CUDA kernel behind ``vtp::TopKTokens``; see ``topk_tokens``.

One launch selects, compacts and gathers. Every program of the grid ``(programs, batch)`` repeats
the selection of its row in registers and then copies its own share of the kept slots, so programs
share nothing: no scratch memory, no atomics, no order of execution that could show in the result.

Triton is imported by ``kernel`` only: the compiled kernel is launched without it (``launch``).
"""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import triton.language as tl

WARPS = {1024: 4, 4096: 8, 16384: 16}
"""Warps of a program by the number of scores that it holds; 8 to 32 scores a thread."""

WORD_BITS = (32, 16)
"""Tokens are copied in words of so many bits; 16 where a row is no whole number of 32."""

ARGUMENTS = ("tokens", "scores", "n", "k", "words", "slots", "kept_tokens", "kept")
"""Inputs, 32-bit integers, outputs: the order that TensorRT's ahead-of-time plugins prescribe."""


def topk_tokens_kernel(  # type: ignore[no-untyped-def]
    tokens,  # pointer to (batch, n, words) words
    scores,  # pointer to (batch, n) float32
    n,
    k,
    words,  # of one token
    slots,  # of one program
    kept_tokens,  # pointer to (batch, k, words) words
    kept,  # pointer to (batch, k) int64
    BLOCK_N: tl.constexpr,  # noqa: N803 - power of two, n or more
    BLOCK_W: tl.constexpr,  # noqa: N803 - words of a row copied at once
):
    """Programs: those of a row, rows."""
    row = tl.program_id(1).to(tl.int64)  # 64 bits: row * n * words may exceed 32
    first = tl.program_id(0) * slots
    end = tl.minimum(first + slots, k)
    index = tl.arange(0, BLOCK_N)
    inside = index < n

    # Keys order as the scores do. They are made from the bits: arithmetic could flush subnormals.
    bits = tl.load(scores + row * n + index, mask=inside, other=0.0).to(tl.uint32, bitcast=True)
    magnitude = bits & 0x7FFFFFFF
    key = tl.where(bits >= 0x80000000, ~bits, bits | 0x80000000)
    key = tl.where(magnitude == 0, 0x80000000, key)  # -0.0 is 0.0
    key = tl.where(magnitude > 0x7F800000, 1, key)  # every NaN, below minus infinity
    key = tl.where(inside, key, 0)

    # Narrow [low, last] around the k-th largest key, two bits a pass, until exactly k keys reach
    # low or a single key value is left. Always: count = keys from low on, k or more of them;
    # above = keys beyond last, fewer than k. Three counts share one sum, 20 bits each.
    low = tl.full((), 0, tl.uint32)
    last = tl.full((), 0xFFFFFFFF, tl.uint32)
    step = tl.full((), 1 << 30, tl.uint32)
    above = tl.full((), 0, tl.int32)
    count = n
    while (step > 0) & (count > k):
        low1 = low + step
        low2 = low1 + step
        low3 = low2 + step
        reached = (key >= low1).to(tl.int64)
        reached += (key >= low2).to(tl.int64) << 20
        reached += (key >= low3).to(tl.int64) << 40
        counts = tl.sum(reached, 0)
        count1 = (counts & 0xFFFFF).to(tl.int32)
        count2 = (counts >> 20 & 0xFFFFF).to(tl.int32)
        count3 = (counts >> 40).to(tl.int32)
        if count3 >= k:
            low = low3
            count = count3
        elif count2 >= k:
            low = low2
            last = low3 - 1
            count = count2
            above = count3
        elif count1 >= k:
            low = low1
            last = low2 - 1
            count = count1
            above = count2
        else:
            last = low1 - 1
            above = count1
        step = step >> 2

    # All beyond last are kept; of those between low and last, which are equal if they are too
    # many, the first ones: never padding, which comes last. One scan counts both, 16 bits each.
    beyond = key > last
    between = (key >= low) & (key <= last)
    seen = tl.cumsum(beyond.to(tl.int32) + (between.to(tl.int32) << 16), 0)
    seen_between = seen >> 16
    room = k - above
    selected = beyond | (between & (seen_between <= room))
    slot = (seen & 0xFFFF) + tl.minimum(seen_between, room) - 1

    # Four slots at a time: one sum finds the sources of four, and four rows are loaded together.
    lane = tl.arange(0, 4)
    column = tl.arange(0, BLOCK_W)
    source_row = tokens + row * n * words
    for s in range(first, end, 4):
        ahead = slot - s
        mine = selected & (ahead >= 0) & (ahead < 4)
        sources = tl.sum(tl.where(mine, index.to(tl.int64) << (ahead & 3) * 16, 0), 0)
        source0 = source_row + (sources & 0xFFFF) * words
        source1 = source_row + (sources >> 16 & 0xFFFF) * words
        source2 = source_row + (sources >> 32 & 0xFFFF) * words
        source3 = source_row + (sources >> 48 & 0xFFFF) * words
        target = kept_tokens + (row * k + s) * words
        size1 = tl.where(s + 1 < end, words, 0)  # none behind the program's last slot
        size2 = tl.where(s + 2 < end, words, 0)
        size3 = tl.where(s + 3 < end, words, 0)
        tl.store(kept + row * k + s + lane, sources >> lane * 16 & 0xFFFF, mask=s + lane < end)
        for begin in range(0, words, BLOCK_W):
            at = begin + column
            words0 = tl.load(source0 + at, mask=at < words)
            words1 = tl.load(source1 + at, mask=at < size1)
            words2 = tl.load(source2 + at, mask=at < size2)
            words3 = tl.load(source3 + at, mask=at < size3)
            tl.store(target + at, words0, mask=at < words)
            tl.store(target + words + at, words1, mask=at < size1)
            tl.store(target + 2 * words + at, words2, mask=at < size2)
            tl.store(target + 3 * words + at, words3, mask=at < size3)


def block_w(block: int) -> int:
    """Words of a row that a program copies at once: four a thread."""
    return WARPS[block] * 32 * 4


def source_sha256() -> str:
    """Of the kernel's source text: what the compiled kernels must have been made from."""
    return hashlib.sha256(inspect.getsource(topk_tokens_kernel).encode()).hexdigest()


def kernel() -> Any:
    """The kernel as a function of Triton.

    Interpreted on the CPU where ``TRITON_INTERPRET=1`` was set before Triton was first imported.
    """
    import triton
    import triton.language

    # The kernel's body looks its names up in this module.
    globals()["tl"] = triton.language
    return triton.jit(topk_tokens_kernel)


def interpret(
    tokens: Any, scores: Any, kept_tokens: Any, kept: Any, *, keep: int, block: int, slots: int
) -> None:
    """Run the kernel in Triton's interpreter; for tests, needs ``TRITON_INTERPRET=1``.

    Args:
        tokens: torch CPU tensor ``(batch, n, words)`` of int32 or int16 words.
        scores: torch CPU tensor ``(batch, n)`` float32.
        kept_tokens: is filled, ``(batch, keep, words)`` words.
        kept: is filled, ``(batch, keep)`` int64.
        keep: k.
        block: one of ``WARPS``, n or more.
        slots: kept tokens of one program.
    """
    batch, n, words = tokens.shape
    kernel()[(-(-keep // slots), batch)](
        *(tokens, scores, n, keep, words, slots, kept_tokens, kept),
        BLOCK_N=block,
        BLOCK_W=block_w(block),
    )
