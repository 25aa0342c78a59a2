"""``topk_tokens`` against its table, and against the specification's words in plain Python."""

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vtp.trt_plugins.topk_tokens import CASES, Case, topk_tokens


def naive(scores: list[float], keep: int) -> list[int]:
    """Picks one token after the other: the first of those that no other token beats."""

    def beats(a: float, b: float) -> bool:
        if math.isnan(a):
            return False
        return math.isnan(b) or a > b

    left = list(range(len(scores)))
    kept = []
    for _ in range(keep):
        best = left[0]
        for index in left[1:]:
            if beats(scores[index], scores[best]):
                best = index
        left.remove(best)
        kept.append(best)
    return sorted(kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8], ids=lambda t: t.__name__)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, dtype: type) -> None:
    tokens = case.tokens(dim=5, dtype=dtype)
    found, kept = topk_tokens(tokens, case.scores, np.array([case.keep], np.int64))
    assert kept.dtype == np.int64
    assert found.dtype == dtype
    np.testing.assert_array_equal(kept, case.expected)
    for row in range(len(kept)):
        np.testing.assert_array_equal(found[row], tokens[row, case.expected[row]])


@pytest.mark.parametrize("case", [c for c in CASES if c.scores.size < 100], ids=lambda c: c.name)
def test_table_agrees_with_the_words(case: Case) -> None:
    for scores, expected in zip(case.scores, case.expected, strict=True):
        assert naive(scores.tolist(), case.keep) == expected.tolist()


def test_table_is_well_formed() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        batch, n = case.scores.shape
        assert case.scores.dtype == np.float32
        assert case.expected.shape == (batch, case.keep)
        assert (np.diff(case.expected) > 0).all()
        assert not case.scores.flags.writeable
        flat = case.tokens().reshape(batch * n, 3)
        assert len(np.unique(flat, axis=0)) == batch * n
        assert flat.max() < 128


SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 1e-45, -1e-45, 2.0**-126, 3.4e38]
SCORES = st.floats(width=32) | st.sampled_from(SPECIAL).map(np.float32)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equals_the_naive_implementation(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 24)))
    scores = data.draw(hnp.arrays(np.float32, shape, elements=SCORES))
    keep = data.draw(st.integers(1, shape[1]))
    tokens = np.random.default_rng(0).integers(0, 255, (*shape, 4), np.uint8)
    found, kept = topk_tokens(tokens, scores, keep)
    assert kept.tolist() == [naive(row, keep) for row in scores.tolist()]
    assert all((found[i] == tokens[i, kept[i]]).all() for i in range(shape[0]))


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float16, st.integers(2, 40), elements=st.floats(0, 1, width=16)), st.integers(1)
)
def test_ties_of_rounded_scores(scores: np.ndarray, keep: int) -> None:
    keep = keep % len(scores) + 1
    wide = scores.astype(np.float32)
    _, kept = topk_tokens(np.zeros((1, len(wide), 1)), wide[None], keep)
    assert kept[0].tolist() == naive(wide.tolist(), keep)


def test_rows_do_not_depend_on_each_other() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 9, (6, 50)).astype(np.float32)
    tokens = random.random((6, 50, 7))
    order = random.permutation(6)
    found, kept = topk_tokens(tokens, scores, 20)
    shuffled, shuffled_kept = topk_tokens(tokens[order], scores[order], 20)
    np.testing.assert_array_equal(shuffled, found[order])
    np.testing.assert_array_equal(shuffled_kept, kept[order])


def test_tokens_are_copied_bit_by_bit() -> None:
    bits = np.array([[[0x7FC00001], [0x80000000], [0x00000001]]], np.uint32)
    found, _ = topk_tokens(bits.view(np.float32), np.ones((1, 3), np.float32), 3)
    np.testing.assert_array_equal(found.view(np.uint32), bits)


TOKENS, ROW = np.zeros((1, 4, 2)), np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    ("tokens", "scores", "keep", "words"),
    [
        (TOKENS, ROW, 0, r"keep is 0; .* 1\.\.4"),
        (TOKENS, ROW, 5, r"keep is 5; .* 1\.\.4"),
        (TOKENS, ROW, -1, "keep is -1"),
        (TOKENS, ROW, 0.5, r"keep is 0\.5; give one whole number"),
        (TOKENS, ROW, np.array([1, 2]), "one whole number"),
        (TOKENS, ROW, True, "one whole number"),
        (TOKENS, ROW.astype(np.float64), 1, "float64"),
        (TOKENS, ROW.astype(np.float16), 1, "float16"),
        (TOKENS, ROW[0], 1, r"shape \(4,\)"),
        (TOKENS[0], ROW, 1, r"shape \(4, 2\)"),
        (TOKENS[:, :3], ROW, 1, r"\(1, 3, 2\)"),
        (TOKENS[:, :0], ROW[:, :0], 1, r"1\.\.0"),
    ],
)
def test_what_does_not_fit(
    tokens: np.ndarray, scores: np.ndarray, keep: object, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        topk_tokens(tokens, scores, keep)


def test_imports_numpy_only() -> None:
    code = (
        "import sys, vtp.trt_plugins.topk_tokens\n"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'tensorrt', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
