"""Launch the compiled kernel of ``vtp::TopKTokens`` through the CUDA driver.

Needs the package ``cuda-bindings`` and a driver; neither torch nor Triton nor a compiler. The
kernels are data of this package (``kernels/``), made by ``compile_kernels``.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import lzma
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import KernelUnavailable

KERNELS = Path(__file__).parent / "kernels"
INDEX = "index.json"
SCHEMA = 1

# Of a block's programs, how many a multiprocessor runs at a time. More would run one after the
# other, each with a selection of its own; the largest block takes all registers.
_RESIDENT = {1024: 2, 4096: 2, 16384: 1}
_MAX_BATCH = 65535  # second dimension of a CUDA grid
_MAX_ROW_BYTES = 2**30  # the kernel counts the words of up to four tokens in 32 bits


@dataclass(frozen=True, kw_only=True)
class Binary:
    """One compiled variant of the kernel."""

    file: str
    """Name in ``kernels/``, compressed by xz."""
    kind: str
    """``cubin`` for one GPU, or ``ptx`` for it and all later ones."""
    arch: int
    """Compute capability, ten times major plus minor."""
    block: int
    """Scores that a program holds: n or more."""
    word_bits: int
    """Tokens are copied in words of so many bits."""
    num_warps: int
    """Warps of 32 threads a program."""
    shared_bytes: int
    """Dynamic shared memory a program, in bytes."""
    function: str
    """Name of the kernel in the module."""
    hidden_parameters: int
    """Pointers behind the kernel's own parameters; null is passed."""
    sha256: str
    """Of the file's contents, uncompressed."""


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """How one call is launched."""

    block: int
    word_bits: int
    words: int
    """Words of one token."""
    slots: int
    """Kept tokens of one program."""
    grid: tuple[int, int]
    """Programs of a row, and rows."""


def binaries_from_json(text: str) -> tuple[Binary, ...]:
    """The entries of ``index.json``.

    Raises:
        KernelUnavailable: Another schema.
    """
    index = json.loads(text)
    if index.get("schema") != SCHEMA:
        raise KernelUnavailable(
            f"{INDEX} has schema {index.get('schema')}, this vtp reads {SCHEMA}: install vtp again"
        )
    return tuple(Binary(**entry) for entry in index["binaries"])


def choose(
    binaries: Sequence[Binary], capability: tuple[int, int], block: int, word_bits: int
) -> list[Binary]:
    """Binaries of a variant that fit a GPU, the one to try first in front.

    Args:
        capability: compute capability, major and minor.

    Raises:
        KernelUnavailable: None fits.
    """
    arch = 10 * capability[0] + capability[1]
    variant = [b for b in binaries if (b.block, b.word_bits) == (block, word_bits)]
    exact = [b for b in variant if b.kind == "cubin" and b.arch == arch]
    portable = [b for b in variant if b.kind == "ptx" and b.arch <= arch]
    if not exact + portable:
        compiled = sorted(b.arch for b in variant if b.kind == "cubin")
        later = min((b.arch for b in variant if b.kind == "ptx"), default=None)
        listed = ", ".join(f"{a // 10}.{a % 10}" for a in compiled) or "none"
        also = f", and any from {later // 10}.{later % 10} on" if later else ""
        raise KernelUnavailable(
            f"a GPU of compute capability {capability[0]}.{capability[1]} is meant; the kernel is "
            f"compiled for {listed}{also}: build the engines with --topk native"
        )
    return exact + portable


def check_capabilities(capabilities: Sequence[str]) -> None:
    """Refuse GPUs on which the kernel does not run.

    Args:
        capabilities: compute capabilities, such as ``8.7``.

    Raises:
        KernelUnavailable: naming the first, and what it is compiled for.
    """
    binaries = binaries_from_json((KERNELS / INDEX).read_text(encoding="utf-8"))
    for text in capabilities:
        major, _, minor = text.partition(".")
        choose(binaries, (int(major), int(minor)), binaries[0].block, binaries[0].word_bits)


def plan(
    blocks: Sequence[int],
    multiprocessors: int,
    *,
    batch: int,
    n: int,
    k: int,
    row_bytes: int,
    addresses: Sequence[int] = (),
) -> LaunchConfig:
    """Variant and grid of one call.

    Args:
        blocks: scores that a program can hold, by variant.
        multiprocessors: of the GPU.
        row_bytes: size of one token.
        addresses: of the tokens and of the kept tokens, which words must be aligned to.

    Raises:
        ValueError: Sizes that the kernel does not take.
    """
    limit = max(blocks)
    if not 1 <= n <= limit:
        raise ValueError(f"n is {n}; the kernel takes 1..{limit} tokens")
    if not 1 <= k <= n:
        raise ValueError(f"k is {k}; give a count in 1..{n}, the number of tokens")
    if not 1 <= batch <= _MAX_BATCH:
        raise ValueError(f"batch is {batch}; the kernel takes 1..{_MAX_BATCH}")
    if not 1 <= row_bytes <= _MAX_ROW_BYTES:
        raise ValueError(f"a token has {row_bytes} bytes; the kernel takes 1..{_MAX_ROW_BYTES}")
    for word in (4, 2):
        if all(value % word == 0 for value in (row_bytes, *addresses)):
            break
    else:
        raise ValueError(
            f"tokens of {row_bytes} bytes at {', '.join(map(hex, addresses))}: size and addresses "
            "must be even; the kernel takes types of 2, 4 or 8 bytes"
        )
    block = min(b for b in blocks if b >= n)
    programs = max(1, _RESIDENT.get(block, 1) * multiprocessors // batch)
    slots = -(-k // programs)
    grid = (-(-k // slots), batch)
    return LaunchConfig(
        block=block, word_bits=8 * word, words=row_bytes // word, slots=slots, grid=grid
    )


class Arguments:
    """Parameters of a launch, in memory, in the order of the kernel's own."""

    def __init__(
        self, inputs: Sequence[int], integers: Sequence[int], outputs: Sequence[int], hidden: int
    ) -> None:
        values: list[Any] = [ctypes.c_uint64(address) for address in inputs]
        values += [ctypes.c_int32(value) for value in integers]
        values += [ctypes.c_uint64(address) for address in (*outputs, *[0] * hidden)]
        self._values = values  # must outlive the addresses below
        self._addresses = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))

    @property
    def address(self) -> int:
        """Of the array of pointers to the values, as ``cuLaunchKernel`` takes it."""
        return ctypes.addressof(self._addresses)


@cache
def _driver() -> Any:
    """``cuda.bindings.driver``, initialised.

    Raises:
        KernelUnavailable: The package, the driver or a GPU is missing.
    """
    try:
        from cuda.bindings import driver
    except ImportError as error:
        raise KernelUnavailable(
            f"the package cuda-bindings is not installed or not usable ({error}): "
            "pip install cuda-bindings"
        ) from error
    try:
        _checked(driver.cuInit(0), "cuInit")
    except RuntimeError as error:
        if isinstance(error, KernelUnavailable):
            raise
        raise KernelUnavailable(
            "the CUDA driver (libcuda) was not found: install the NVIDIA driver of the GPU"
        ) from error
    return driver


def _checked(result: tuple[Any, ...], call: str) -> Any:
    """What a call of the driver returns besides its status.

    Raises:
        KernelUnavailable: The status is an error.
    """
    status, *values = result
    if int(status):
        name = getattr(status, "name", str(status))
        raise KernelUnavailable(f"the CUDA driver answers {call} with {name}")
    return values[0] if len(values) == 1 else tuple(values)


class TopKTokensKernel:
    """The kernel on one GPU; each variant is loaded when it is first launched.

    Works in the device's primary context, as torch and TensorRT do.
    """

    def __init__(self, device: int | None = None) -> None:
        """Look the GPU up.

        Args:
            device: number of the GPU in CUDA's order; default that of the current context, or 0.

        Raises:
            KernelUnavailable: No package, driver or GPU, or a GPU that no binary fits.
        """
        self._driver = driver = _driver()
        self._binaries = binaries_from_json((KERNELS / INDEX).read_text(encoding="utf-8"))
        self._blocks = sorted({binary.block for binary in self._binaries})
        if device is None and int(self._call("cuCtxGetCurrent")):
            handle = self._call("cuCtxGetDevice")
        else:
            handle = self._call("cuDeviceGet", device or 0)
        attribute = driver.CUdevice_attribute

        def ask(name: str) -> int:
            key = getattr(attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            return int(self._call("cuDeviceGetAttribute", key, handle))

        self._capability = (ask("COMPUTE_CAPABILITY_MAJOR"), ask("COMPUTE_CAPABILITY_MINOR"))
        self._multiprocessors = ask("MULTIPROCESSOR_COUNT")
        for block in self._blocks:
            choose(self._binaries, self._capability, block, 32)
        self._context = self._call("cuDevicePrimaryCtxRetain", handle)
        self._loaded: dict[tuple[int, int], tuple[Binary, Any]] = {}

    def launch(
        self,
        tokens_ptr: int,
        scores_ptr: int,
        kept_tokens_ptr: int,
        kept_ptr: int,
        batch: int,
        n: int,
        k: int,
        row_bytes: int,
        stream: int,
    ) -> None:
        """Queue the operator on a stream; all buffers are contiguous, in the GPU's memory.

        The first launch of a variant loads it, which a CUDA graph cannot capture.

        Args:
            tokens_ptr: address of ``(batch, n, dim)``, of any type of 2, 4 or 8 bytes.
            scores_ptr: address of ``(batch, n)`` float32.
            kept_tokens_ptr: address of ``(batch, k, dim)``, is written.
            kept_ptr: address of ``(batch, k)`` int64, is written.
            batch: rows.
            n: tokens of a row.
            k: tokens to keep of each row.
            row_bytes: size of one token.
            stream: handle of a stream of the device.

        Raises:
            ValueError: Sizes that the kernel does not take.
            KernelUnavailable: The driver refuses all binaries, or the launch.
        """
        addresses = (tokens_ptr, kept_tokens_ptr)
        sizes = {"batch": batch, "n": n, "k": k, "row_bytes": row_bytes}
        call = plan(self._blocks, self._multiprocessors, **sizes, addresses=addresses)
        with self._current_context():
            binary, function = self._load(call.block, call.word_bits)
            arguments = Arguments(
                (tokens_ptr, scores_ptr),
                (n, k, call.words, call.slots),
                (kept_tokens_ptr, kept_ptr),
                binary.hidden_parameters,
            )
            shape = (*call.grid, 1, 32 * binary.num_warps, 1, 1, binary.shared_bytes)
            queue = self._driver.CUstream(stream)
            self._call("cuLaunchKernel", function, *shape, queue, arguments.address, 0)

    @contextmanager
    def _current_context(self) -> Iterator[None]:
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def _load(self, block: int, word_bits: int) -> tuple[Binary, Any]:
        """A variant's binary and its function; loaded once."""
        key = (block, word_bits)
        if key not in self._loaded:
            first, *others = choose(self._binaries, self._capability, block, word_bits)
            try:
                self._loaded[key] = (first, self._function(first))
            except KernelUnavailable as error:
                if not others:
                    raise
                warnings.warn(f"{error}; its PTX is compiled instead", RuntimeWarning, stacklevel=3)
                self._loaded[key] = (others[0], self._function(others[0]))
        return self._loaded[key]

    def _function(self, binary: Binary) -> Any:
        data = contents(binary)
        module = self._call("cuModuleLoadData", data + b"\0")  # PTX is a C string
        function = self._call("cuModuleGetFunction", module, binary.function.encode())
        # Makes a lazy driver load the code now: a refusal must not wait for the launch.
        attribute = self._driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_BINARY_VERSION
        self._call("cuFuncGetAttribute", attribute, function)
        return function

    def _call(self, name: str, *arguments: Any) -> Any:
        return _checked(getattr(self._driver, name)(*arguments), name)


def contents(binary: Binary) -> bytes:
    """A binary's bytes.

    Raises:
        KernelUnavailable: The file is missing, or not what the index says.
    """
    try:
        data = lzma.decompress((KERNELS / binary.file).read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise KernelUnavailable(f"{binary.file} cannot be read: install vtp again") from error
    if hashlib.sha256(data).hexdigest() != binary.sha256:
        raise KernelUnavailable(f"{binary.file} was changed: install vtp again")
    return data
