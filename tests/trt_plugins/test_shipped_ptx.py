"""The shipped PTX, run on the CPU by ``ptx_emulator``; and what the emulator finds in wrong PTX.

On a GPU, which also runs the machine code: ``make gpu-check``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from vtp.trt_plugins import kernel, launch
from vtp.trt_plugins.topk_tokens import CASES, Case, topk_tokens

from . import ptx_emulator
from .ptx_emulator import Fault, Kernel, Memory, parse, run
from .test_kernel import BLOCKS, PTX, read_back

BINARIES = {(b.block, b.word_bits): b for b in PTX}
WORDS = {32: np.uint32, 16: np.uint16}
SMALL = [case for case in CASES if case.scores.size < 1000]
LARGE = [case for case in CASES if case.scores.size >= 1000]
GUARD = np.full(64, 0x55, np.uint8)


def variants(names: str, others: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize a test with every block and every other; all but the first block are slow."""
    pairs = [
        pytest.param(block, other, marks=pytest.mark.slow if block > BLOCKS[0] else ())
        for block, other in product(BLOCKS, others)
    ]
    return pytest.mark.parametrize(names, pairs)


VARIANTS = variants("block, word_bits", kernel.WORD_BITS)


@cache
def shipped(block: int, word_bits: int) -> str:
    """The PTX of a variant."""
    return launch.contents(BINARIES[block, word_bits]).decode()


@cache
def parsed(text: str) -> Kernel:
    """PTX, parsed once."""
    return parse(text)


def check(
    tokens: np.ndarray,
    scores: np.ndarray,
    keep: int,
    block: int,
    *,
    multiprocessors: int = 1,
    offset: int = 0,
    ptx: str = "",
    name: str = "",
) -> launch.LaunchConfig:
    """Launch a variant as ``TopKTokensKernel`` does, and compare with the reference.

    Args:
        multiprocessors: of the GPU; the more, the more programs a row.
        offset: is added to the addresses of the tokens and the kept tokens.
        ptx: in the place of the shipped one.
        name: is told if it fails.
    """
    (batch, n), row_bytes = scores.shape, tokens[0, 0].nbytes
    sizes = {"batch": batch, "n": n, "k": keep, "row_bytes": row_bytes}
    # The arrays lie across multiples of 4 GiB, where addresses carry into their upper half.
    at_tokens, at_scores, at_kept_tokens, at_kept = ((i << 36) - 8 for i in range(1, 5))
    at_tokens += offset
    at_kept_tokens += offset
    call = launch.plan([block], multiprocessors, **sizes, addresses=(at_tokens, at_kept_tokens))
    inputs = [tokens.copy(), scores.copy()]
    for array in inputs:
        array.setflags(write=False)
    expected = topk_tokens(tokens, scores, keep)
    guarded = [np.append(np.full(array.nbytes, 0x55, np.uint8), GUARD) for array in expected]
    arrays = [*inputs, *(array[: -GUARD.size] for array in guarded)]
    addresses = (at_tokens, at_scores, at_kept_tokens, at_kept)
    binary = BINARIES[block, call.word_bits]
    integers = (n, keep, call.words, call.slots)
    arguments = launch.Arguments(
        addresses[:2], integers, addresses[2:], hidden=binary.hidden_parameters
    )
    run(
        parsed(ptx or shipped(block, call.word_bits)),
        read_back(arguments.address),
        call.grid,
        list(map(Memory, addresses, arrays)),
        binary.shared_bytes,
    )
    for found, wanted in zip(guarded, expected, strict=True):
        wanted_bytes = np.append(wanted.reshape(-1).view(np.uint8), GUARD)
        np.testing.assert_array_equal(found, wanted_bytes, err_msg=name)
    return call


def random_tokens(shape: tuple[int, int, int], word_bits: int) -> np.ndarray:
    """Words of any bits."""
    bits = np.random.default_rng(0).integers(0, 2**word_bits, shape, np.uint64)
    return bits.astype(WORDS[word_bits])


def random_scores(n: int) -> np.ndarray:
    """Two rows: one where few are tied, one of ties with NaN, infinities and both zeros."""
    random = np.random.default_rng(n)
    scores = random.normal(size=(2, n)).astype(np.float32)
    scores[1] = np.round(2 * scores[1]) / 2
    special = np.array([np.nan, -np.nan, np.inf, -np.inf, 1e-45, -1e-45], np.float32)
    scores[1, ::7] = random.choice(special, len(scores[1, ::7]))
    return scores


# --- the shipped PTX ------------------------------------------------------------------------


@variants("block, dtype", (np.float32, np.float16))
def test_shipped_ptx_meets_the_specification(block: int, dtype: type) -> None:
    for case in SMALL:
        call = check(case.tokens(3, dtype), case.scores, case.keep, block, name=case.name)
        assert call.word_bits == (32 if dtype == np.float32 else 16)


def test_an_even_number_of_float16_is_copied_in_32_bits() -> None:
    for case in SMALL:
        call = check(case.tokens(4, np.float16), case.scores, case.keep, 1024, name=case.name)
        assert call.word_bits == 32


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_shipped_ptx_meets_the_specification_on_many_tokens(case: Case, dtype: type) -> None:
    call = check(case.tokens(3, dtype), case.scores, case.keep, BLOCKS[-1], multiprocessors=2)
    assert call.grid == (2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("word_bits", kernel.WORD_BITS)
@pytest.mark.parametrize(
    ("n", "keep", "block", "programs"),
    [(576, 64, 1024, 6), (2880, 321, 4096, 6), (5000, 101, 16384, 3), (16384, 30, 16384, 3)],
)
def test_rows_of_ties_and_nan(n: int, keep: int, block: int, programs: int, word_bits: int) -> None:
    assert min(b for b in BLOCKS if b >= n) == block
    tokens = random_tokens((2, n, 5), word_bits)
    call = check(tokens, random_scores(n), keep, block, multiprocessors=6)
    assert (call.grid, call.word_bits) == ((programs, 2), word_bits)


@VARIANTS
def test_rows_of_words_may_end_anywhere_in_what_is_copied_at_once(
    block: int, word_bits: int
) -> None:
    # An even number of 16-bit words is copied in 32 bits, unless the address is odd.
    offset = {32: 0, 16: 2}[word_bits]
    at_once = kernel.block_w(block)
    ends = product((at_once * i // 4 for i in (1, 2, 3, 4)), (1, 2, 3, 4))
    for words, keep in [*ends, (1, 5), (at_once + 1, 5)]:
        tokens = random_tokens((2, 6, words), word_bits)
        call = check(tokens, random_scores(6), keep, block, offset=offset)
        assert (call.words, call.word_bits, call.slots) == (words, word_bits, keep)


# A thread has its scores in registers, each with instructions of its own: of index i and i plus
# multiples of the number of threads.


@VARIANTS
def test_scores_are_compared_alike_in_every_register(block: int, word_bits: int) -> None:
    # High, low: first those at the three borders of a pass of the selection.
    powers = np.array([2.0**33, 2.0**65, 2.0**97], np.float32)
    pairs = [*zip(powers, np.nextafter(powers, 0), strict=True)]
    least_nan = np.uint32(0x7F800001).view(np.float32)
    pairs += [(np.inf, least_nan), (-np.inf, np.nan), (1e-45, 0), (0, -1e-45), (1, 0)]
    rows = [*product(pairs, (31, 32))]
    scores = np.empty((len(rows), block), np.float32)
    for row, ((high, low), count) in zip(scores, rows, strict=True):
        row[:] = low
        row[:: block // 32][:count] = high
    scores[-1, -3:] = 1  # more of them than are kept
    check(random_tokens((*scores.shape, 1), word_bits), scores, 32, block)


@VARIANTS
def test_ties_are_cut_in_every_register(block: int, word_bits: int) -> None:
    threads = 32 * kernel.WARPS[block]
    scores = np.zeros((block // threads, block), np.float32)
    scores[:, :4] = 1
    for register, row in enumerate(scores):  # the first of two, which begins a group of slots
        row[register * threads + 5 : register * threads + 7] = 1
    check(random_tokens((*scores.shape, 1), word_bits), scores, 5, block)


@VARIANTS
def test_rows_may_end_with_every_register(block: int, word_bits: int) -> None:
    threads = 32 * kernel.WARPS[block]
    for n in range(threads, block + 1, threads):
        scores = np.zeros((1, n), np.float32)
        scores[0, -1] = 2
        check(random_tokens((1, n, 1), word_bits), scores, 1, block)


# --- what is found in the shipped PTX, made wrong -------------------------------------------


def check_edited(ptx: str) -> None:
    """Rows that need all of the kernel: many passes and several groups of slots."""
    for n, keep in ((512, 301), (30, 14)):
        tokens = random_tokens((1, n, 3), 32)
        check(tokens, random_scores(n)[1:], keep, 1024, ptx=ptx)


def test_what_is_edited_below_passes_unedited() -> None:
    check_edited(shipped(1024, 32))


def test_every_barrier_is_needed() -> None:
    text = shipped(1024, 32)
    barriers = list(re.finditer(r"\tbar\.sync .*\n", text))
    assert len(barriers) > 3
    for barrier in barriers:
        with pytest.raises(Fault, match="race"):
            check_edited(text[: barrier.start()] + text[barrier.end() :])


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        pytest.param(r"setp\.lt(\.s32)", r"setp.le\1", id="a score behind the row"),
        pytest.param(r"setp\.gt(\.u32.*, 2139095040;)", r"setp.ge\1", id="infinity is a NaN"),
        pytest.param(
            r"(sub\.s32\s+(%r\d+),(?:.*\n)+?.*)setp\.le(\.s32.*\2;)",
            r"\1setp.lt\3",
            id="a tie less",
        ),
        pytest.param(r"setp\.lt(\.u32.*, 4;)", r"setp.le\1", id="five slots at a time"),
        pytest.param(
            r"setp\.lt(\.s32\s+(%p\d+),(?:.*\n)+?.*@\2 st\.global\.b32)",
            r"setp.le\1",
            id="a word behind the token",
        ),
    ],
)
def test_a_comparison_that_is_off_by_one_is_found(pattern: str, replacement: str) -> None:
    ptx, count = re.subn(pattern, replacement, shipped(1024, 32), count=1)
    assert count == 1
    with pytest.raises((Fault, AssertionError)):
        check_edited(ptx)


def test_an_index_that_is_stored_behind_its_place_is_found() -> None:
    store = r"(st\.global\.b64 \[ %rd\d+ \+) 0 \]"
    ptx, count = re.subn(store, r"\1 8 ]", shipped(1024, 32))
    assert count == 1
    with pytest.raises(Fault, match=r"outside the global memory: .*st\.global\.b64"):
        check_edited(ptx)


# --- the emulator by itself -----------------------------------------------------------------

THREADS = np.arange(64, dtype=np.uint64)
FRAME = """
.extern .shared .align 16 .b8 shared[];
.visible .entry k(
\t.param .u64 k_param_0,
\t.param .u64 k_param_1
)
.reqntid 64
{
\tld.param.b64 %rd0, [k_param_0];
\tld.param.b64 %rd1, [k_param_1];
\tmov.u32 %r0, %tid.x;
\tmad.wide.u32 %rd0, %r0, 8, %rd0;
\tmov.b32 %r1, shared;
\tmad.wide.u32 %rd2, %r0, 4, 0;
\tcvt.u32.u64 %r2, %rd2;
\tadd.s32 %r2, %r1, %r2;
\tsetp.lt.u32 %p0, %r0, 5;
BODY
\tcvt.u64.u32 %rd9, %r9;
\tst.global.b64 [%rd0], %rd9;
\tret;
}
"""


def run_lines(*lines: str) -> np.ndarray:
    """What 64 threads leave in %r9. They find in registers:

    %r0 their number, %p0 whether it is below 5, %rd0 the address of their result, %rd1 that of an
    input, %r1 that of 256 bytes of shared memory, %r2 that of their own 4.
    """
    results = np.zeros(64, np.uint64)
    source = np.arange(64, dtype=np.uint32)
    source.setflags(write=False)
    memory = [Memory(1 << 40, results), Memory(1 << 41, source)]
    run(parse(FRAME.replace("BODY", "\n".join(lines))), [1 << 40, 1 << 41], (1, 1), memory, 256)
    return results


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["sub.s32 %r9, %r0, 64;"], THREADS + 2**32 - 64),
        (["min.s32 %r9, -1, %r0;"], 2**32 - 1),
        (["mul.wide.s32 %rd3, -2, 3;", "mov.b64 {_, %r9}, %rd3;"], 2**32 - 1),
        (["mul.wide.u32 %rd3, -2, 3;", "mov.b64 {_, %r9}, %rd3;"], 2),
        (["shl.b32 %r9, -1, %r0;"], np.where(THREADS < 32, (2**32 - 1 << THREADS) % 2**32, 0)),
        (["shr.u32 %r9, -1, %r0;"], 2**32 - 1 >> THREADS),
        (["shr.s32 %r9, -1, %r0;"], 2**32 - 1),
        (["bfe.u32 %r9, -1, 28, 8;"], 15),
        (["setp.gt.u32 %p1, -1, 0;", "selp.b32 %r9, 1, 2, %p1;"], 1),
        (["setp.gt.s32 %p1, -1, 0;", "selp.b32 %r9, 1, 2, %p1;"], 2),
        (["mov.b32 %r9, 7;", "@!%p0 mov.b32 %r9, 8;"], np.where(THREADS < 5, 7, 8)),
        (["redux.sync.add.s32 %r9, %r0, -1;"], np.repeat([496, 1520], 32)),
        (["shfl.sync.bfly.b32 %r9, %r0, 2, 31, -1;"], THREADS ^ 2),
        (
            ["shfl.sync.up.b32 %r9, %r0, 8, 0, -1;"],
            np.where(THREADS % 32 < 8, THREADS, THREADS - 8),
        ),
        (["ld.global.b32 %r9, [%rd1+20];"], 5),
        (
            ["st.shared.b32 [%r2], %r0;", "bar.sync 0;", "ld.shared.b32 %r9, [%r1+252];"],
            63,
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_instruction(lines: list[str], expected: np.ndarray | int) -> None:
    np.testing.assert_array_equal(run_lines(*lines), expected)


SHARED = ("st.shared.b32 [%r2], %r0;", "ld.shared.b32 %r9, [%r1+0];")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (SHARED, "race: a load of what another stored"),
        ((SHARED[0], "bar.sync 0;", SHARED[1], SHARED[0]), "race: a store over what another"),
        ((SHARED[0], "st.shared.b32 [%r1], 0;"), "race: a store over what another stored"),
        (("@%p0 st.shared.b32 [%r1], %r0;",), "race: several threads store"),
        (("st.shared.b32 [%r1], 7;",), "race: several threads store"),  # two warps
        (("mov.b32 %r9, 0;", "ld.param.b64 %rd0, [k_param_0];"), "race: several threads store"),
        (("ld.shared.b32 %r9, [%r2];",), "a load of what nobody stored"),
        (("ld.global.b32 %r9, [%rd0];",), "a load of what nobody stored"),
        (("st.global.b32 [%rd1], %r0;",), "a store to an input"),
        (("mov.b32 %r9, 0;", "add.s64 %rd0, %rd0, 8;"), "outside the global memory"),
        (("st.shared.b32 [%r2+4], %r0;",), "outside the shared memory"),
        (("ld.global.b32 %r9, [%rd1+2];",), "not aligned to 4 bytes"),
        (("mov.b32 %r9, %r8;",), "%r8 is read before it is written"),
        (("@%p0 mov.b32 %r9, 1;",), "%r9 is read before it is written"),
        (("mov.b32 %r9, %rd0;",), "%rd0 has 8 bytes, not 4"),
        (("@%p0 bra $L1;", "$L1:"), "some threads take a branch"),
        (("@%p0 ret;",), "some threads take a branch"),
        (("@%p0 bar.sync 0;",), "some threads do not take part"),
        (("redux.sync.add.s32 %r9, %r0, 65535;",), "some threads do not take part"),
        (("$L1:", "bra.uni $L1;"), "no end after 1000 instructions"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_fault(lines: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ptx_emulator, "MOST_INSTRUCTIONS", 1000)
    with pytest.raises(Fault, match=re.escape(message)):
        run_lines(*lines)


def test_threads_of_a_warp_may_store_the_same() -> None:
    store = "@%p0 st.shared.b32 [%r1], 7;"
    assert (run_lines(store, "bar.sync 0;", "ld.shared.b32 %r9, [%r1];") == 7).all()


@pytest.mark.parametrize(
    "line",
    [
        "mul.hi.u32 %r9, %r0, %r0;",
        "add.f32 %r9, %r0, %r0;",
        "atom.global.add.u32 %r9, [%rd0], 1;",
        "shfl.sync.down.b32 %r9, %r0, 1, 31, -1;",
        "shfl.sync.bfly.b32 %r9, %r0, 1, 7199, -1;",
        "bfe.s32 %r9, %r0, 0, 4;",
        "mov.u32 %r9, %laneid;",
        ".local .b8 stack[16];",
    ],
)
def test_what_is_not_covered_is_named(line: str) -> None:
    with pytest.raises(NotImplementedError) as caught:
        run_lines(line)
    assert line in str(caught.value)
