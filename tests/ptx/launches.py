"""Kernels that are launched like the emulator's, and run as PTX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptx.machine import run
from ptx.memory import Memory
from ptx.program import Program, read
from segaware_np.testing.cuda import emulate, nvrtc

GLOBAL = 1 << 40  # where global memory begins
launched: Counter = Counter()  # kernels, as C++ names them
executed: Counter = Counter()  # kinds of instructions


def launch(
    program: Program,
    grid: int,
    block: int,
    arguments: Sequence[np.ndarray | np.generic],
    writable: Sequence[bool],
) -> None:
    """Run a program on arrays, each in memory of its own, and write back what it may write."""
    memory, values, placed = Memory(GLOBAL), [], []
    for argument, may_write in zip(arguments, writable, strict=True):
        if isinstance(argument, np.ndarray) and argument.ndim:
            placed.append((memory.add(argument, may_write), argument))
            values.append(np.uint64(placed[-1][0]).tobytes())
        else:
            values.append(argument.tobytes())
    executed.update(run(program, grid, block, values, memory))
    for address, argument in placed:
        memory.copy_back(address, argument)


class Module(emulate.Module):
    """Kernels whose signatures are the emulator's, and whose code is NVRTC's."""

    architecture = "90"

    def __init__(self, code: str, names: Sequence[str] = (), *rest: Any) -> None:
        super().__init__(code, names, *rest)
        self._build = nvrtc.compiler().build(code, self.kernels, self.architecture)
        self._programs: dict[str, Program] = {}

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[np.ndarray | np.generic],
        shared_bytes: int = 0,
        seed: int | None = None,
    ) -> None:
        assert not shared_bytes and len(grid) == len(block) == 1
        if kernel not in self._programs:
            self._programs[kernel] = read(self._build.ptx, self._build.names[kernel])
        writable = [not parameter.const for parameter in self.signature(kernel)]
        launch(self._programs[kernel], grid[0], block[0], arguments, writable)
        launched[kernel] += 1
