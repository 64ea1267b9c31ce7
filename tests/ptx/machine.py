"""Runs a PTX program: the threads of a block as lanes of NumPy arrays, in one walk.

Of the threads that can go on, those at the lowest instruction go on together, so that branches
meet again where the compiler lets them. Barriers must be reached by all threads, tensor cores by
whole warps.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Sequence

import numpy as np

from ptx import tensor_cores
from ptx.arithmetic import FUNCTIONS, compare, convert, dtype, flush, round_tf32
from ptx.memory import GARBAGE, Memory
from ptx.program import Instruction, Program
from segaware_np.testing.cuda.emulate import KernelError

SHARED = 1 << 24  # where shared memory begins
_INSTRUCTIONS = 10**7  # of a block; more are an endless loop


def run(
    program: Program, grid: int, block: int, arguments: Sequence[bytes], memory: Memory
) -> Counter:
    """Run all blocks of a launch; return how often each kind of instruction was executed."""
    assert len(arguments) == len(program.parameters)
    parameters = dict(zip(program.parameters, arguments, strict=True))
    executed: Counter = Counter()
    for index in range(grid):
        with np.errstate(all="ignore"):
            Block(program, index, grid, block, parameters, memory).run(executed)
    return executed


class Block:
    def __init__(
        self,
        program: Program,
        index: int,
        grid: int,
        threads: int,
        parameters: dict[str, bytes],
        memory: Memory,
    ) -> None:
        self.program, self.parameters, self.memory = program, parameters, memory
        self.threads = threads
        self.shared = Memory(SHARED)
        self.shared_at = self.shared.add(
            np.full(program.shared_bytes, GARBAGE, np.uint8), writable=True
        )
        self.registers: dict[str, np.ndarray] = {}
        special = {"tid": np.arange(threads), "ctaid": index, "ntid": threads, "nctaid": grid}
        for name, value in special.items():
            self.registers[f"%{name}.x"] = np.full(threads, value, np.uint32)
        self.at = np.zeros(threads, np.int64)
        self.ended, self.waiting = np.zeros(threads, bool), np.zeros(threads, bool)

    # ---- the walk ------------------------------------------------------------------------
    def run(self, executed: Counter) -> None:
        instructions = self.program.instructions
        for _ in range(_INSTRUCTIONS):
            ready = ~(self.ended | self.waiting)
            if not ready.any():
                if self.ended.all():
                    return
                if self.ended.any():
                    raise KernelError("a barrier that not all threads reach")
                self.waiting[:] = False
                continue
            here = self.at[ready].min()
            lanes = ready & (self.at == here)
            instruction = instructions[here]
            self.at[lanes] += 1
            active = lanes
            if instruction.guard:
                active = lanes & (self.registers[instruction.guard] ^ instruction.negated)
            executed[".".join(instruction.words)] += 1
            if active.any():
                self.execute(instruction, active, lanes)
        raise KernelError(f"no end after {_INSTRUCTIONS} instructions")

    def execute(self, instruction: Instruction, active: np.ndarray, lanes: np.ndarray) -> None:
        name = instruction.words[0]
        if name == "bra":
            self.at[active] = self.program.labels[instruction.operands[-1]]
        elif name in ("ret", "exit"):
            self.ended |= active
        elif name == "trap":
            raise KernelError("the kernel traps")
        elif name == "bar":
            self.waiting |= active
        elif name in ("ld", "st", "mma"):
            getattr(self, name)(instruction, active)
        else:
            self.write(instruction.operands[0], self.value_of(instruction), active, instruction)

    def value_of(self, instruction: Instruction) -> np.ndarray:
        """Return what an instruction computes from its operands after the first."""
        words, operands = instruction.words, instruction.operands[1:]
        name, kind = words[0], words[-1]
        if "tf32" in words:
            return round_tf32(self.read(operands[0], "f32"))
        if name == "cvt":
            to, kind = words[-2:]
            value = convert(self.input(operands[0], kind, words), dtype(to), words)
            return flush(value) if "ftz" in words and value.dtype == np.float32 else value
        if name == "setp":
            return compare(words[1], *(self.input(o, kind, words) for o in operands))
        if name == "selp":
            yes, no = (self.read(o, kind) for o in operands[:2])
            return np.where(self.read(operands[2], "pred"), yes, no)
        if name not in FUNCTIONS:
            raise NotImplementedError(instruction.text)
        kinds = [kind] * len(operands)
        if name in ("shl", "shr"):
            kinds[1] = "u32"
        if name == "mad" and "wide" in words:
            kinds[2] = f"{kind[0]}{2 * int(kind[1:])}"
        values = [self.input(o, k, words) for o, k in zip(operands, kinds, strict=True)]
        found = FUNCTIONS[name](*values, words)
        return flush(found) if "ftz" in words else found

    # ---- registers -----------------------------------------------------------------------
    def input(self, operand: str | tuple, kind: str, words: tuple[str, ...]) -> np.ndarray:
        value = self.read(operand, kind)
        return flush(value) if "ftz" in words and kind == "f32" else value

    def read(self, operand: str | tuple[str, ...], kind: str) -> np.ndarray:
        """Return an operand's value in each lane: of a register, a constant, an address."""
        if isinstance(operand, tuple):
            parts = [self.read(part, f"b{int(kind[1:]) // len(operand)}") for part in operand]
            return np.stack(parts, -1).view(dtype(kind))[:, 0]
        if operand in self.registers:
            register = self.registers[operand]
            if kind == "pred":
                return register
            return register.astype(f"u{dtype(kind).itemsize}", copy=False).view(dtype(kind))
        if operand.startswith("%"):
            raise KernelError(f"{operand} is read before it is written")
        return np.full(self.threads, self.constant(operand, kind))

    def constant(self, operand: str, kind: str) -> np.generic | bool:
        if kind == "pred":
            return bool(int(operand))
        if operand in self.program.shared:
            return dtype(kind).type(self.shared_at + self.program.shared[operand])
        if re.match("0[fd]", operand):
            form = {"f": ">f", "d": ">d"}[operand[1]]
            return dtype(kind).type(struct.unpack(form, bytes.fromhex(operand[2:]))[0])
        bits = int(operand, 0) & ((1 << 8 * dtype(kind).itemsize) - 1)
        return np.array(bits, f"u{dtype(kind).itemsize}").view(dtype(kind))[()]

    def write(
        self, operand: str | tuple, value: np.ndarray, active: np.ndarray, instruction: Instruction
    ) -> None:
        """Set a register in the active lanes, extended to its width by the sign of its type."""
        if isinstance(operand, tuple):
            parts = np.ascontiguousarray(value).view(f"u{value.itemsize // len(operand)}")
            for part, word in zip(operand, parts.reshape(self.threads, -1).T, strict=True):
                self.write(part, word, active, instruction)
            return
        kind = self.program.registers[re.match("%[a-z]+", operand)[0]]
        if kind != "pred":
            width = dtype(kind).itemsize
            if value.itemsize < width:
                value = value.astype(f"{'i' if value.dtype.kind == 'i' else 'u'}{width}")
            value = np.ascontiguousarray(value).view(f"u{width}")
        if operand not in self.registers:
            garbage = np.full(self.threads * value.itemsize, GARBAGE, np.uint8)
            self.registers[operand] = garbage.view(value.dtype)
        np.copyto(self.registers[operand], value, where=active)

    # ---- memory --------------------------------------------------------------------------
    def place(self, operand: str, active: np.ndarray) -> np.ndarray:
        base, _, offset = operand.strip("[]").partition("+")
        return self.read(base, "s64")[active] + int(offset or 0)

    def ld(self, instruction: Instruction, active: np.ndarray) -> None:
        words, (targets, source) = instruction.words, instruction.operands
        kind, targets = dtype(words[-1]), targets if isinstance(targets, tuple) else (targets,)
        if words[1] == "param":
            name, _, offset = source.strip("[]").partition("+")
            value = np.frombuffer(self.parameters[name], kind, 1, int(offset or 0))
            found = [np.repeat(value, self.threads)]
        else:
            memory = self.shared if words[1] == "shared" else self.memory
            loaded = memory.load(
                self.place(source, active), kind.itemsize, len(targets), instruction.text
            )
            found = [np.zeros(self.threads, kind) for _ in targets]
            for value, some in zip(found, loaded, strict=True):
                value[active] = some.view(kind)
        for target, value in zip(targets, found, strict=True):
            self.write(target, value, active, instruction)

    def st(self, instruction: Instruction, active: np.ndarray) -> None:
        words, (target, sources) = instruction.words, instruction.operands
        sources = sources if isinstance(sources, tuple) else (sources,)
        memory = self.shared if words[1] == "shared" else self.memory
        kind = f"b{8 * dtype(words[-1]).itemsize}"
        values = [self.read(source, kind)[active] for source in sources]
        memory.store(self.place(target, active), values, instruction.text)

    def mma(self, instruction: Instruction, active: np.ndarray) -> None:
        targets, *factors = instruction.operands
        for first in range(0, self.threads, 32):
            warp = slice(first, first + 32)
            if not active[warp].any():
                continue
            if not active[warp].all() or len(active[warp]) < 32:
                raise KernelError(f"not all threads of a warp are at {instruction.text}")
            left, right, sums = ([self.read(r, "b32")[warp] for r in part] for part in factors)
            found = tensor_cores.multiply_add(left, right, sums, "f16" in instruction.words)
            for target, value in zip(targets, found, strict=True):
                lanes = np.zeros(self.threads, np.uint32)
                lanes[warp] = value
                where = np.zeros(self.threads, bool)
                where[warp] = True
                self.write(target, lanes, where, instruction)
