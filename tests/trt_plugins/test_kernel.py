"""The CUDA kernel: its source interpreted on the CPU, the shipped binaries, how it is launched."""

import ctypes
import hashlib
import json
import lzma
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtp.trt_plugins import kernel, launch
from vtp.trt_plugins.launch import Binary, KernelUnavailable, TopKTokensKernel
from vtp.trt_plugins.topk_tokens import CASES, Case, topk_tokens

INDEX = json.loads((launch.KERNELS / launch.INDEX).read_text(encoding="utf-8"))
BINARIES = launch.binaries_from_json((launch.KERNELS / launch.INDEX).read_text(encoding="utf-8"))
CUBINS = [b for b in BINARIES if b.kind == "cubin"]
PTX = [b for b in BINARIES if b.kind == "ptx"]
ARCHS = (87, 89, 90, 110, 120)
BLOCKS = sorted(kernel.WARPS)

# --- the source, interpreted ----------------------------------------------------------------

# Token types: float32 rows of any length are whole 32-bit words, 16-bit ones only if even.
TYPES = {"float32": (np.float32, 3), "float16, odd": (np.float16, 3), "bfloat16": (np.uint16, 4)}
GUARD = 0x55

# The interpreter is switched on before Triton is first imported, so it has a process of its own.
INTERPRET = """
import sys
import numpy as np
import torch
from vtp.trt_plugins import kernel

jobs = np.load(sys.argv[1], allow_pickle=False)
results = {}
for name in sorted({key.rpartition("/")[0] for key in jobs.files}):
    tokens, scores, numbers = (jobs[f"{name}/{part}"] for part in ("tokens", "scores", "numbers"))
    keep, block, slots = map(int, numbers)
    (batch, n), words = scores.shape, tokens.shape[2]
    # One row more than the kernel may write.
    kept_tokens = np.full((batch * keep + 1, words), 0x55, tokens.dtype)
    kept = np.full(batch * keep + 1, 0x55, np.int64)
    kernel.interpret(
        *map(torch.from_numpy, (tokens, scores, kept_tokens, kept)),
        keep=keep, block=block, slots=slots,
    )
    results |= {f"{name}/tokens": kept_tokens, f"{name}/kept": kept}
np.savez(sys.argv[2], **results)
"""


def tokens_of(case: Case, kind: str) -> np.ndarray:
    """The case's tokens; bfloat16 as its bits, the upper half of float32's."""
    dtype, dim = TYPES[kind]
    if dtype == np.uint16:
        return (np.ascontiguousarray(case.tokens(dim)).view(np.uint32) >> 16).astype(np.uint16)
    return case.tokens(dim, dtype)


def long_case(n: int, keep: int) -> Case:
    """Two rows of random scores, many of them tied."""
    random = np.random.default_rng(0)
    scores = random.normal(size=(2, n)).astype(np.float16).astype(np.float32)
    expected = topk_tokens(scores[:, :, None], scores, keep)[1]
    return Case(name=f"{n} tokens", scores=scores, keep=keep, expected=expected)


def jobs() -> Iterator[tuple[str, Case, np.ndarray, int]]:
    """``(name, case, tokens, slots of a program)``"""
    for case, kind in product(CASES, TYPES):
        tokens, k = tokens_of(case, kind), case.keep
        if case.scores.size < 1000:
            for slots in sorted({1, k // 2 + 1, k + 5}):
                yield f"{case.name}, {kind}, {slots} a program", case, tokens, slots
        elif kind != "bfloat16":  # to the kernel, 32-bit words as the first type
            yield f"{case.name}, {kind}", case, tokens, -(-k // 3)
    longest = long_case(16384, 300)
    for slots in (41, 150, 300):
        yield f"{longest.name}, {slots} a program", longest, longest.tokens(5), slots
    middle = long_case(3000, 200)
    for kind in TYPES:
        yield f"{middle.name}, {kind}", middle, tokens_of(middle, kind), 33
    wide = Case(name="wide", scores=CASES[0].scores, keep=3, expected=CASES[0].expected)
    yield "wide, 32-bit words", wide, wide.tokens(1300), 2
    yield "wide, 16-bit words", wide, wide.tokens(1301, np.float16), 2


JOBS = {name: (case, np.ascontiguousarray(tokens), slots) for name, case, tokens, slots in jobs()}


@pytest.fixture(scope="module")
def interpreted(
    tmp_path_factory: pytest.TempPathFactory, python_environment: dict[str, str]
) -> dict[str, np.ndarray]:
    """Results of all jobs; keys ``name/tokens`` (words) and ``name/kept``."""
    pytest.importorskip("triton", reason="needs triton")
    pytest.importorskip("torch", reason="needs torch")
    folder = tmp_path_factory.mktemp("kernel")
    arrays = {}
    for name, (case, tokens, slots) in JOBS.items():
        n, row_bytes = case.scores.shape[1], tokens[0, 0].nbytes
        call = launch.plan(BLOCKS, 1, batch=1, n=n, k=case.keep, row_bytes=row_bytes)
        arrays[f"{name}/tokens"] = tokens.view(f"int{call.word_bits}")
        arrays[f"{name}/scores"] = case.scores
        arrays[f"{name}/numbers"] = np.array([case.keep, call.block, slots])
    np.savez(folder / "jobs.npz", **arrays)
    subprocess.run(
        [sys.executable, "-c", INTERPRET, folder / "jobs.npz", folder / "results.npz"],
        check=True,
        env=python_environment | {"TRITON_INTERPRET": "1"},
    )
    with np.load(folder / "results.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_source_meets_the_specification(name: str, interpreted: dict[str, np.ndarray]) -> None:
    case, tokens, _ = JOBS[name]
    kept, words = interpreted[f"{name}/kept"], interpreted[f"{name}/tokens"]
    np.testing.assert_array_equal(kept[:-1].reshape(case.expected.shape), case.expected)
    wanted = np.take_along_axis(tokens, case.expected[:, :, None], axis=1)
    np.testing.assert_array_equal(words[:-1].view(tokens.dtype).reshape(wanted.shape), wanted)
    assert kept[-1] == GUARD
    assert (words[-1] == GUARD).all()


def test_jobs_cover_every_block_and_word() -> None:
    plans = {
        (p.block, p.word_bits)
        for case, tokens, _ in JOBS.values()
        for n, k, size in [(case.scores.shape[1], case.keep, tokens[0, 0].nbytes)]
        for p in [launch.plan(BLOCKS, 1, batch=1, n=n, k=k, row_bytes=size)]
    }
    assert plans == {(block, bits) for block in BLOCKS for bits in kernel.WORD_BITS}


# --- the binaries ---------------------------------------------------------------------------


def test_every_variant_is_shipped_for_every_gpu() -> None:
    variants = set(product(kernel.WARPS, kernel.WORD_BITS))
    for arch in ARCHS:
        assert {(b.block, b.word_bits) for b in CUBINS if b.arch == arch} == variants
    assert {(b.block, b.word_bits) for b in PTX} == variants
    assert {b.arch for b in PTX} == {80}
    assert len(BINARIES) == len(variants) * (len(ARCHS) + 1)
    assert {path.name for path in launch.KERNELS.iterdir()} == {
        *(b.file for b in BINARIES),
        launch.INDEX,
    }
    assert all(b.num_warps == kernel.WARPS[b.block] for b in BINARIES)


def test_binaries_are_made_from_this_source() -> None:
    assert INDEX["source_sha256"] == kernel.source_sha256(), (
        "the kernel's source was changed: python -m vtp.trt_plugins.compile_kernels"
    )


def test_binaries_stay_small() -> None:
    assert sum(path.stat().st_size for path in launch.KERNELS.iterdir()) < 600_000


@pytest.mark.parametrize("binary", CUBINS, ids=lambda b: b.file)
def test_cubin_is_for_its_gpu(binary: Binary) -> None:
    data = launch.contents(binary)
    assert data[:5] == b"\x7fELF\x02"
    abi, machine, flags = data[8], *struct.unpack_from("<H", data, 18), *unpack_flags(data)
    assert machine == 190  # EM_CUDA
    # The older file format, which drivers of CUDA 12 read, has the GPU in the lowest byte.
    assert abi == (7 if binary.arch <= 90 else 8)
    assert (flags & 0xFF if abi == 7 else flags >> 8 & 0xFF) == binary.arch
    assert binary.function.encode() in data
    assert b"/tmp" not in data


def unpack_flags(data: bytes) -> tuple[int]:
    """``e_flags`` of a 64-bit ELF file."""
    (flags,) = struct.unpack_from("<I", data, 48)
    return (flags,)


@pytest.mark.parametrize("binary", PTX, ids=lambda b: b.file)
def test_ptx_is_for_old_drivers_and_its_parameters_are_ours(binary: Binary) -> None:
    text = launch.contents(binary).decode()
    (version,) = re.findall(r"^\.version (\d+)\.(\d+)$", text, re.MULTILINE)
    assert tuple(map(int, version)) <= (8, 4)
    assert re.findall(r"^\.target (\S+)$", text, re.MULTILINE) == ["sm_80"]
    (entry,) = re.findall(r"\.visible \.entry (\w+)\(\n(.*?)\n\)", text, re.DOTALL)
    types = re.findall(r"\.param \.(\w+)", entry[1])
    assert entry[0] == binary.function
    assert types == ["u64"] * 2 + ["u32"] * 4 + ["u64"] * (2 + binary.hidden_parameters)
    assert re.findall(r"^\.reqntid (\d+)$", text, re.MULTILINE) == [str(32 * binary.num_warps)]


@pytest.mark.parametrize("binary", PTX, ids=lambda b: b.file)
def test_kernel_needs_no_atomics_no_stack_and_no_float_arithmetic(binary: Binary) -> None:
    text = launch.contents(binary).decode()
    assert not re.findall(r"\b(?:atom|red)\.|\.local\b|\bf(?:add|mul|ma)\b", text)


@pytest.fixture(scope="module")
def fresh() -> tuple[str, Binary]:
    """The smallest variant, compiled now."""
    triton = pytest.importorskip("triton", reason="needs triton")
    if triton.__version__ != INDEX["triton"]:
        pytest.skip(f"triton {triton.__version__} compiles otherwise than {INDEX['triton']}")
    from vtp.trt_plugins.compile_kernels import make_ptx

    return make_ptx(1024, 32)


def test_compiling_again_gives_the_shipped_ptx(fresh: tuple[str, Binary]) -> None:
    (shipped,) = [b for b in PTX if (b.block, b.word_bits) == (1024, 32)]
    assert fresh[1] == shipped
    assert fresh[0].encode() == launch.contents(shipped)


@pytest.mark.parametrize("arch", ARCHS)
def test_assembling_again_gives_the_shipped_cubin(arch: int, fresh: tuple[str, Binary]) -> None:
    from vtp.trt_plugins.compile_kernels import ASSEMBLERS, assemble

    assert tuple(ASSEMBLERS) == ARCHS
    (shipped,) = launch.choose(CUBINS, divmod(arch, 10), 1024, 32)
    assert hashlib.sha256(assemble(fresh[0], arch)).hexdigest() == shipped.sha256


def test_a_parameter_that_is_read_stays() -> None:
    from vtp.trt_plugins.compile_kernels import without_unused_parameters

    listed = ",\n".join(f"\t.param .u64 k_param_{i}" for i in range(10))
    ptx = f".entry k(\n{listed}\n)\n{{ {{}} }}"
    text, hidden = without_unused_parameters(ptx.replace("{}", "ld k_param_1;"))
    assert hidden == 0
    assert text.count(".param") == 8
    text, hidden = without_unused_parameters(ptx.replace("{}", "ld k_param_8;"))
    assert hidden == 1
    assert text.count(".param") == 9


# --- what is launched -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "files"),
    [
        ((8, 6), ["sm80.ptx"]),
        ((8, 7), ["sm87.cubin", "sm80.ptx"]),
        ((9, 0), ["sm90.cubin", "sm80.ptx"]),
        ((11, 0), ["sm110.cubin", "sm80.ptx"]),
        ((12, 0), ["sm120.cubin", "sm80.ptx"]),
        ((10, 0), ["sm80.ptx"]),
        ((12, 1), ["sm80.ptx"]),
    ],
)
def test_choice_of_the_binary(capability: tuple[int, int], files: list[str]) -> None:
    found = launch.choose(BINARIES, capability, 4096, 16)
    assert [b.file for b in found] == [f"topk_tokens_4096_w16_{file}.xz" for file in files]


def test_a_gpu_that_is_too_old_is_named() -> None:
    with pytest.raises(KernelUnavailable) as caught:
        launch.choose(BINARIES, (7, 5), 1024, 32)
    assert "compute capability 7.5 is meant" in str(caught.value)
    assert "8.7, 8.9, 9.0, 11.0, 12.0, and any from 8.0 on" in str(caught.value)


@pytest.mark.parametrize(
    ("n", "k", "row_bytes", "batch", "block", "bits", "words", "grid"),
    [
        (576, 64, 8192, 1, 1024, 32, 2048, (32, 1)),
        (1024, 1, 2, 1, 1024, 16, 1, (1, 1)),
        (1025, 20, 6, 2, 4096, 16, 3, (10, 2)),
        (2880, 640, 8192, 1, 4096, 32, 2048, (32, 1)),
        (16384, 33, 12, 1, 16384, 32, 3, (11, 1)),
        (10, 10, 4, 100, 1024, 32, 1, (1, 100)),
    ],
)
def test_plan(
    n: int,
    k: int,
    row_bytes: int,
    batch: int,
    block: int,
    bits: int,
    words: int,
    grid: tuple[int, int],
) -> None:
    found = launch.plan(BLOCKS, 16, batch=batch, n=n, k=k, row_bytes=row_bytes)
    assert (found.block, found.word_bits, found.words, found.grid) == (block, bits, words, grid)
    # Every slot has one program, and every program a slot.
    assert found.slots * (grid[0] - 1) < k <= found.slots * grid[0]


def test_words_fit_the_addresses() -> None:
    sizes = {"batch": 1, "n": 8, "k": 2, "row_bytes": 8}
    assert launch.plan(BLOCKS, 1, **sizes, addresses=(256, 512)).word_bits == 32
    assert launch.plan(BLOCKS, 1, **sizes, addresses=(256, 514)).word_bits == 16
    with pytest.raises(ValueError, match="must be even"):
        launch.plan(BLOCKS, 1, **sizes, addresses=(256, 515))


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"n": 16385}, "n is 16385; the kernel takes 1..16384 tokens"),
        ({"n": 0}, "n is 0"),
        ({"k": 0}, "k is 0; give a count in 1..8"),
        ({"k": 9}, "k is 9"),
        ({"batch": 0}, "batch is 0"),
        ({"batch": 65536}, "takes 1..65535"),
        ({"row_bytes": 3}, "3 bytes"),
        ({"row_bytes": 0}, "0 bytes"),
        ({"row_bytes": 2**31}, "the kernel takes 1..1073741824"),
    ],
)
def test_sizes_that_the_kernel_does_not_take(wrong: dict[str, int], text: str) -> None:
    sizes = {"batch": 1, "n": 8, "k": 2, "row_bytes": 8} | wrong
    with pytest.raises(ValueError, match=text):
        launch.plan(BLOCKS, 1, **sizes)


def read_back(address: int) -> list[int]:
    """Values that the pointers at an address point to, for a kernel without hidden parameters."""
    types = [ctypes.c_uint64] * 2 + [ctypes.c_int32] * 4 + [ctypes.c_uint64] * 2
    pointers = (ctypes.c_void_p * 8).from_address(address)
    return [t.from_address(p).value for t, p in zip(types, pointers, strict=True)]


def test_arguments_stand_in_the_kernels_order() -> None:
    arguments = launch.Arguments((1 << 40, 2), (3, 4, 5, 6), (7, 1 << 63), hidden=0)
    assert read_back(arguments.address) == [1 << 40, 2, 3, 4, 5, 6, 7, 1 << 63]
    hidden = launch.Arguments((1, 2), (3, 4, 5, 6), (7, 8), hidden=2)
    pointers = (ctypes.c_void_p * 10).from_address(hidden.address)
    assert [ctypes.c_uint64.from_address(p).value for p in pointers[8:]] == [0, 0]


class FakeDriver:
    """A driver of CUDA with one GPU; writes down what it is asked."""

    class CUdevice_attribute:  # noqa: N801
        """Values are the answers."""

        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 8
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 7
        CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT = 16

    class CUfunction_attribute:  # noqa: N801
        """Only the one that is asked."""

        CU_FUNC_ATTRIBUTE_BINARY_VERSION = 0

    def __init__(self, refused: bytes = b"nothing") -> None:
        self.refused = refused
        self.calls: list[str] = []
        self.images: list[bytes] = []
        self.launched: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> tuple[Any, ...]:
            self.calls.append(name)
            if name == "cuDeviceGetAttribute":
                return 0, arguments[0]
            if name == "cuModuleLoadData":
                self.images.append(arguments[0])
                return int(arguments[0].startswith(self.refused)), "module"
            if name == "cuLaunchKernel":
                self.launched.append((*arguments[:9], read_back(arguments[9])))
                return (0,)
            return 0, 0

        return call

    @staticmethod
    def CUstream(handle: int) -> int:  # noqa: N802
        """As it is."""
        return handle


def faked(monkeypatch: pytest.MonkeyPatch, refused: bytes = b"nothing") -> FakeDriver:
    """Puts a fake driver in the place of the real one."""
    driver = FakeDriver(refused)
    monkeypatch.setattr(launch, "_driver", lambda: driver)
    return driver


SIZES = {"batch": 2, "n": 576, "k": 64, "row_bytes": 8192, "stream": 99}


def test_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = faked(monkeypatch)
    kernel_ = TopKTokensKernel()
    assert "cuModuleLoadData" not in driver.calls
    for _ in range(2):
        kernel_.launch(4096, 8192, 12288, 16384, **SIZES)
    assert len(driver.images) == 1
    assert driver.images[0].startswith(b"\x7fELF")
    arguments = [4096, 8192, 576, 64, 2048, 4, 12288, 16384]
    assert driver.launched == [(0, 16, 2, 1, 128, 1, 1, 128, 99, arguments)] * 2
    assert driver.calls.count("cuCtxPushCurrent") == driver.calls.count("cuCtxPopCurrent") == 2
    kernel_.launch(4096, 8192, 12288, 16384, **SIZES | {"n": 2880})
    assert len(driver.images) == 2


def test_a_refused_cubin_falls_back_to_ptx(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = faked(monkeypatch, refused=b"\x7fELF")
    kernel_ = TopKTokensKernel(0)
    with pytest.warns(RuntimeWarning, match="cuModuleLoadData .* PTX is compiled instead"):
        kernel_.launch(4096, 8192, 12288, 16384, **SIZES)
    kernel_.launch(4096, 8192, 12288, 16384, **SIZES)
    assert [image[:2] for image in driver.images] == [b"\x7fE", b"//"]
    assert driver.images[1].endswith(b"\0")
    assert len(driver.launched) == 2


def test_all_binaries_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = faked(monkeypatch, refused=b"")
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(KernelUnavailable, match="answers cuModuleLoadData with 1"),
    ):
        TopKTokensKernel(0).launch(4096, 8192, 12288, 16384, **SIZES)
    assert driver.calls[-1] == "cuCtxPopCurrent"


def test_a_gpu_without_binary_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch)
    attribute = FakeDriver.CUdevice_attribute
    monkeypatch.setattr(attribute, "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR", 7)
    with pytest.raises(KernelUnavailable, match=r"capability 7\.7"):
        TopKTokensKernel()


def test_without_the_package_or_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(KernelUnavailable, match="pip install cuda-bindings"):
        TopKTokensKernel()


def test_without_a_driver() -> None:
    bindings = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    try:
        if bindings.cuInit(0)[0] == 0:
            pytest.skip("this machine has a GPU")
    except RuntimeError:
        pass  # no libcuda
    with pytest.raises(KernelUnavailable, match=r"libcuda|cuInit"):
        TopKTokensKernel()


# --- damaged data ---------------------------------------------------------------------------


def test_damaged_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launch, "KERNELS", tmp_path)
    binary = BINARIES[0]
    with pytest.raises(KernelUnavailable, match="cannot be read"):
        launch.contents(binary)
    (tmp_path / binary.file).write_bytes(b"text")
    with pytest.raises(KernelUnavailable, match="cannot be read"):
        launch.contents(binary)
    (tmp_path / binary.file).write_bytes(lzma.compress(b"other"))
    with pytest.raises(KernelUnavailable, match="was changed"):
        launch.contents(binary)
    whole = replace(binary, sha256=hashlib.sha256(b"other").hexdigest())
    assert launch.contents(whole) == b"other"


def test_an_index_of_another_schema() -> None:
    with pytest.raises(KernelUnavailable, match="schema 2"):
        launch.binaries_from_json('{"schema": 2}')
