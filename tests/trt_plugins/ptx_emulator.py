"""Run PTX on the CPU, in NumPy: a check of shipped kernels where there is no GPU.

Covered are the instructions in ``ARITHMETIC`` and ``HANDLERS``, which are those of the kernels that
are shipped: integer arithmetic, predicates, shuffles and sums within a warp, global and shared
memory, barriers. Anything else raises ``NotImplementedError`` that names it.

Programs of the grid run one after the other, and the threads of a program in lockstep: an
instruction is executed for all threads at once, on registers that are arrays with an element a
thread. So all threads must take a branch, or none, which is more than CUDA asks.

What a kernel must not do raises ``Fault``:

- Race: load what another thread stored, or store over what another thread loaded or stored,
  without a barrier between. Threads of a warp are no exception, but may store the same value in
  one instruction. Barriers order accesses to shared memory only: in global memory, no two threads
  of the whole grid may meet. So the order of threads and programs cannot show in the result.
- Load memory that nobody stored, store to an input, leave the buffers, or use an address that is
  not aligned to the size of the access.
- Read a register before it is written, or as of another size.
- Take a branch, meet a barrier, shuffle or sum with some of the threads only.
- Run for ever.

Not covered: floating point, atomics, divergent threads, the time and the registers that a GPU
needs, and what the assembler makes of the PTX.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

WARP = 32
MOST_INSTRUCTIONS = 1_000_000  # of a thread
SHARED_ADDRESS = 1024  # not 0: an address without it is outside
NOBODY, SEVERAL = -1, -2  # in the place of a thread's number

TYPES = {f"{k}{n}": np.dtype(f"{'iu'[k != 's']}{n // 8}") for k in "bus" for n in (16, 32, 64)}
PRED = TYPES["pred"] = np.dtype(np.bool_)
UINT32, UINT64 = TYPES["u32"], TYPES["u64"]
WIDE = {TYPES[f"{k}{n}"]: TYPES[f"{k}{2 * n}"] for k in "su" for n in (16, 32)}


class Fault(Exception):
    """The kernel does what it must not do."""


@dataclass(frozen=True)
class Instruction:
    """One line of PTX."""

    text: str
    guard: str
    """Predicate that tells which threads take part; empty: all."""
    negated: bool
    """The guard is."""
    form: str
    """Name without types: ``mad.wide`` of ``mad.wide.u32``."""
    types: tuple[np.dtype, ...]
    operands: tuple[str, ...]


@dataclass(frozen=True)
class Kernel:
    """A parsed PTX file."""

    instructions: tuple[Instruction, ...]
    labels: Mapping[str, int]
    """Number of the instruction behind each."""
    parameters: tuple[str, ...]
    threads: int
    shared: str
    """Name of the shared memory."""


def parse(text: str) -> Kernel:
    """Read PTX with one kernel."""
    head, _, body = re.sub(r"//.*", "", text).partition("\n{\n")
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in map(str.strip, body[: body.rindex("}")].splitlines()):
        if label := re.fullmatch(r"(\$\w+):", line):
            labels[label[1]] = len(instructions)
        elif line and not line.startswith((".reg ", ".pragma ")):
            instructions.append(_instruction(line))
    (threads,) = re.findall(r"^\.reqntid (\d+)$", head, re.MULTILINE)
    (shared,) = re.findall(r"^\.extern \.shared .* (\w+)\[\];$", head, re.MULTILINE)
    parameters = re.findall(r"^\s*\.param .*\b(\w+),?$", head, re.MULTILINE)
    return Kernel(tuple(instructions), labels, tuple(parameters), int(threads), shared)


def _instruction(line: str) -> Instruction:
    found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.:]*)\s*(.*);", line)
    negated, guard, name, rest = found.groups(default="") if found else ("", "", "", "")
    form = ".".join(part for part in name.split(".") if part not in TYPES)
    if form not in HANDLERS:
        raise NotImplementedError(line)
    types = tuple(TYPES[part] for part in name.split(".") if part in TYPES)
    operands = tuple(o.strip() for o in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^\s,][^,]*", rest))
    return Instruction(line, guard, bool(negated), form, types, operands)


class Memory:
    """An array at an address; knows which thread loaded and stored what."""

    def __init__(self, address: int, array: np.ndarray, *, unit: int = 2) -> None:
        """Share a contiguous array.

        Args:
            array: an input if it is not writeable; else what it holds does not count.
            unit: bytes that are told apart, of the smallest access.
        """
        self.address, self.unit, self.input = address, unit, not array.flags.writeable
        self._data = np.frombuffer(array, f"u{unit}")
        self._known = np.full(self._data.size, self.input)
        self._loaded_by = np.full(self._data.size, NOBODY)
        self._stored_by = np.full(self._data.size, NOBODY)

    def barrier(self) -> None:
        """What was done before is done for all threads."""
        self._loaded_by.fill(NOBODY)
        self._stored_by.fill(NOBODY)

    def holds(self, addresses: np.ndarray, size: int) -> bool:
        """Are accesses of so many bytes inside?"""
        end = self.address + self._data.nbytes
        return self.address <= int(addresses.min()) and int(addresses.max()) + size <= end

    def load(self, addresses: np.ndarray, threads: np.ndarray, size: int) -> np.ndarray:
        """Units ``(threads, units of the size)``."""
        at, threads = self._units(addresses, size), threads[:, None]
        if not self._known[at].all():
            raise Fault("a load of what nobody stored")
        if not self.input:
            self._refuse_others(self._stored_by[at], threads, "a load of what another stored")
            before = self._loaded_by[at]
            self._loaded_by[at] = threads
            alone = (self._loaded_by[at] == threads) & ((before == NOBODY) | (before == threads))
            self._loaded_by[at[~alone]] = SEVERAL
        return self._data[at]

    def store(self, addresses: np.ndarray, threads: np.ndarray, values: np.ndarray) -> None:
        """Store ``(threads, 1)`` values."""
        at, threads = self._units(addresses, values.itemsize), threads[:, None]
        if self.input:
            raise Fault("a store to an input")
        self._refuse_others(self._loaded_by[at], threads, "a store over what another loaded")
        self._refuse_others(self._stored_by[at], threads, "a store over what another stored")
        units = values.view(self._data.dtype)
        self._data[at], self._known[at], self._stored_by[at] = units, True, threads
        # Of the threads that store to one place, the last is left, here and as its number.
        last = self._stored_by[at]
        if (last // WARP != threads // WARP).any() or (self._data[at] != units).any():
            raise Fault("race: several threads store to one place")
        self._stored_by[at[last != threads]] = SEVERAL

    @staticmethod
    def _refuse_others(who: np.ndarray, threads: np.ndarray, what: str) -> None:
        if ((who != NOBODY) & (who != threads)).any():
            raise Fault(f"race: {what}, without a barrier between")

    def _units(self, addresses: np.ndarray, size: int) -> np.ndarray:
        if size % self.unit:
            raise NotImplementedError(f"an access of {size} bytes")
        if (addresses % addresses.dtype.type(size)).any():
            raise Fault(f"an address is not aligned to {size} bytes")
        offsets = (addresses - addresses.dtype.type(self.address)).astype(np.int64)
        return offsets[:, None] // self.unit + np.arange(size // self.unit)


def run(
    kernel: Kernel,
    parameters: Sequence[int],
    grid: tuple[int, int],
    memory: Sequence[Memory],
    shared_bytes: int,
) -> None:
    """Launch a kernel; ``memory`` is the global one."""
    named = dict(zip(kernel.parameters, parameters, strict=True))
    for number, (y, x) in enumerate(np.ndindex(grid[1], grid[0])):
        special = {"%ctaid.x": x, "%ctaid.y": y, kernel.shared: SHARED_ADDRESS}
        shared = Memory(SHARED_ADDRESS, np.zeros(shared_bytes // 4, UINT32), unit=4)
        memories = {"global": memory, "shared": [shared]}
        _Program(kernel, named, special, memories, first=number * kernel.threads).run()


class _Program:
    """One program of the grid."""

    def __init__(
        self,
        kernel: Kernel,
        parameters: Mapping[str, int],
        special: Mapping[str, int],
        memories: Mapping[str, Sequence[Memory]],
        first: int,
    ) -> None:
        self.kernel, self.parameters, self.memories = kernel, parameters, memories
        self.thread = np.arange(kernel.threads)
        self.number = first + self.thread  # in the whole grid
        self.registers = {k: np.full(len(self.thread), v, UINT32) for k, v in special.items()}
        self.registers["%tid.x"] = self.thread.astype(UINT32)
        self.everyone = np.ones(kernel.threads, np.bool_)
        self.active = self.everyone  # threads that take part in the instruction
        self.next = 0  # instruction
        self.ended = False

    def run(self) -> None:
        """Until the threads return."""
        for _ in range(MOST_INSTRUCTIONS):
            instruction = self.kernel.instructions[self.next]
            self.next += 1
            try:
                self.active = self.everyone
                if instruction.guard:
                    self.active = self.read(instruction.guard, PRED) ^ instruction.negated
                HANDLERS[instruction.form](self, instruction)
            except (Fault, NotImplementedError) as error:
                raise type(error)(f"{error}: {instruction.text}") from error
            if self.ended:
                return
        raise Fault(f"no end after {MOST_INSTRUCTIONS} instructions")

    # --- operands ---------------------------------------------------------------------------

    def read(self, operand: str, dtype: np.dtype) -> np.ndarray:
        """A register or a number, an element a thread."""
        value = self.registers.get(operand)
        if value is None:
            if operand[0] in "-0123456789":
                return _constant(operand, dtype, len(self.thread))
            if re.fullmatch(r"%[a-z]+\d+", operand):
                raise Fault(f"{operand} is read before it is written")
            raise NotImplementedError(operand)
        if value.itemsize != dtype.itemsize:
            raise Fault(f"{operand} has {value.itemsize} bytes, not {dtype.itemsize}")
        return value if value.dtype is dtype else value.view(dtype)

    def write(self, register: str, value: np.ndarray) -> None:
        """Set a register of the active threads."""
        if register == "_":  # PTX for a result that is not wanted
            return
        if self.active is not self.everyone:
            value = np.where(self.active, value, self.read(register, value.dtype))
        self.registers[register] = value

    def find(self, instruction: Instruction, operand: str, size: int) -> tuple[Memory, np.ndarray]:
        """What is accessed, and the addresses of the active threads."""
        space = re.split(r"[.:]+", instruction.form)[1]
        dtype = UINT64 if space == "global" else UINT32
        base, _, offset = operand.strip("[ ]").partition("+")
        added = self.read(base.strip(), dtype) + self.read(offset.strip() or "0", dtype)
        addresses = added[self.active]
        for memory in self.memories[space]:
            if memory.holds(addresses, size):
                return memory, addresses
        raise Fault(f"an access outside the {space} memory")

    def need_all(self, mask: str = "-1") -> None:
        """Some instructions are for whole warps."""
        if not self.active.all() or (self.read(mask, UINT32) != 0xFFFFFFFF).any():
            raise Fault("some threads do not take part")

    # --- instructions -----------------------------------------------------------------------

    def taken(self) -> bool:
        """By all threads (true) or none."""
        if self.active.any() and not self.active.all():
            raise Fault("some threads take a branch and some do not")
        return bool(self.active.all())

    def branch(self, instruction: Instruction) -> None:
        if self.taken():
            self.next = self.kernel.labels[instruction.operands[0]]

    def end(self, instruction: Instruction) -> None:
        self.ended = self.taken()

    def barrier(self, instruction: Instruction) -> None:
        self.need_all()
        for memory in self.memories["shared"]:
            memory.barrier()

    def arithmetic(self, instruction: Instruction) -> None:
        function, letters = ARITHMETIC[instruction.form]
        types = _source_types(letters, *instruction.types)
        target, *sources = instruction.operands
        self.write(target, function(*map(self.read, sources, types)))

    def convert(self, instruction: Instruction) -> None:
        target, source = instruction.operands
        self.write(target, self.read(source, instruction.types[1]).astype(instruction.types[0]))

    def move(self, instruction: Instruction) -> None:
        target, source = instruction.operands
        value = self.read(source, *instruction.types)
        if not target.startswith("{"):
            self.write(target, value)
            return
        low, high = _names(target)
        self.write(low, value.astype(UINT32))
        self.write(high, (value >> np.uint64(32)).astype(UINT32))

    def load_parameter(self, instruction: Instruction) -> None:
        target, source = instruction.operands
        self.write(target, self.read(str(self.parameters[source.strip("[]")]), *instruction.types))

    def load(self, instruction: Instruction) -> None:
        (dtype,), registers = instruction.types, _names(instruction.operands[0])
        values = np.zeros((len(self.thread), len(registers)), dtype)
        if self.active.any():
            size = dtype.itemsize * len(registers)
            memory, addresses = self.find(instruction, instruction.operands[1], size)
            loaded = memory.load(addresses, self.number[self.active], size)
            values[self.active] = loaded.view(dtype)
        for register, value in zip(registers, values.T.copy(), strict=True):
            self.write(register, value)

    def store(self, instruction: Instruction) -> None:
        (dtype,), (register,) = instruction.types, _names(instruction.operands[1])
        if self.active.any():
            values = self.read(register, dtype)[self.active, None]
            memory, addresses = self.find(instruction, instruction.operands[0], dtype.itemsize)
            memory.store(addresses, self.number[self.active], values)

    def sum_of_warp(self, instruction: Instruction) -> None:
        (dtype,), (target, source, mask) = instruction.types, instruction.operands
        self.need_all(mask)
        sums = self.read(source, dtype).reshape(-1, WARP).sum(axis=1, dtype=dtype)
        self.write(target, np.repeat(sums, WARP))

    def shuffle(self, instruction: Instruction) -> None:
        target, value, distance, clamp, mask = instruction.operands
        self.need_all(mask)
        lane = self.thread % WARP
        if (instruction.form, clamp) == ("shfl.sync.bfly", "31"):
            source = self.thread ^ int(distance)
        elif (instruction.form, clamp) == ("shfl.sync.up", "0"):
            source = np.where(lane < int(distance), self.thread, self.thread - int(distance))
        else:
            raise NotImplementedError("a shuffle within parts of a warp")
        self.write(target, self.read(value, UINT32)[source])


@cache
def _source_types(letters: str, dtype: np.dtype) -> list[np.dtype]:
    types = {"t": dtype, "c": UINT32, "p": PRED, "w": WIDE.get(dtype, dtype)}
    return [types[letter] for letter in letters]


@cache
def _constant(text: str, dtype: np.dtype, threads: int) -> np.ndarray:
    bits = int(text, 0) % 2 ** (8 * dtype.itemsize)
    return np.full(threads, bits, f"u{dtype.itemsize}").view(dtype)


def _names(operand: str) -> list[str]:
    """Registers of ``{a, b}`` or ``a``."""
    return [name.strip() for name in operand.strip("{}").split(",")]


def _wide_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(WIDE[a.dtype]) * b.astype(WIDE[a.dtype])


def _count(value: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Like PTX, NumPy shifts by the whole width too; further is the same."""
    return np.minimum(count, 8 * value.itemsize).astype(value.dtype)


def _bit_field(value: np.ndarray, begin: np.ndarray, length: np.ndarray) -> np.ndarray:
    if value.dtype.kind != "u":
        raise NotImplementedError("bfe of a signed type")
    one = np.ones_like(value)
    return (value >> _count(value, begin)) & ((one << _count(value, length)) - one)


ARITHMETIC: dict[str, tuple[Callable[..., np.ndarray], str]] = {
    "add": (operator.add, "tt"),
    "sub": (operator.sub, "tt"),
    "min": (np.minimum, "tt"),
    "mul.lo": (operator.mul, "tt"),
    "mul.wide": (_wide_product, "tt"),
    "mad.wide": (lambda a, b, c: _wide_product(a, b) + c, "ttw"),
    "and": (operator.and_, "tt"),
    "or": (operator.or_, "tt"),
    "not": (operator.invert, "t"),
    "shl": (lambda value, count: value << _count(value, count), "tc"),
    "shr": (lambda value, count: value >> _count(value, count), "tc"),
    "bfe": (_bit_field, "tcc"),
    "selp": (lambda a, b, predicate: np.where(predicate, a, b), "ttp"),
    **{f"setp.{c}": (getattr(operator, c), "tt") for c in ("eq", "ne", "lt", "le", "gt", "ge")},
}
"""What is computed, and the types of its sources: the instruction's own (t), a 32-bit count (c), a
predicate (p), twice as wide (w)."""

HANDLERS: dict[str, Callable[[_Program, Instruction], None]] = {
    **dict.fromkeys(ARITHMETIC, _Program.arithmetic),
    **dict.fromkeys(("bra", "bra.uni"), _Program.branch),
    "ret": _Program.end,
    "bar.sync": _Program.barrier,
    "cvt": _Program.convert,
    "mov": _Program.move,
    "ld.param": _Program.load_parameter,
    **dict.fromkeys(("ld.global", "ld.shared", "ld.shared.v4"), _Program.load),
    **dict.fromkeys(("st.global", "st.shared", "st.shared::cta"), _Program.store),
    "redux.sync.add": _Program.sum_of_warp,
    **dict.fromkeys(("shfl.sync.bfly", "shfl.sync.up"), _Program.shuffle),
}
"""By form. An instruction that is not here is not covered."""
