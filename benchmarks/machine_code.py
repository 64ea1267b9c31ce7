"""What a compiled kernel is made of: its loops, their instructions by kind, and its occupancy.

From the machine code that NVRTC makes, by NVIDIA's disassembler: no GPU is needed, only
``pip install "segaware_np[nvrtc]"``.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from segaware_np.gpu import kernels
from segaware_np.testing.cuda import nvrtc


@dataclass(frozen=True)
class Loop:
    """Instructions first ... last of a kernel, the last of which jumps back to the first."""

    first: int
    last: int
    instructions: tuple[str, ...]

    def kinds(self) -> Counter:
        """Instructions by the first word of their names: FFMA, HMMA, LDG, IMAD ..."""
        return Counter(kind(instruction) for instruction in self.instructions)

    def holds(self, other: Loop) -> bool:
        return self != other and self.first <= other.first and other.last <= self.last


@dataclass(frozen=True)
class Code:
    """A kernel's machine code, and what it needs of a multiprocessor."""

    usage: nvrtc.Usage
    instructions: tuple[str, ...]
    loops: tuple[Loop, ...]

    def step(self, *kinds: str) -> Loop:
        """Return the innermost loop that has instructions of all these kinds."""
        found = [loop for loop in self.loops if all(loop.kinds()[kind] for kind in kinds)]
        return min(found, key=lambda loop: len(loop.instructions))

    def issued(self, step: Loop, mark: str, marks: int | None = None) -> int:
        """Instructions of a thread in one step, in which it executes `mark` so many times.

        What the step holds fewer times stands in a loop inside it, which is gone through again.
        """
        executed = len(step.instructions)
        for inner in self.loops:
            if marks and step.holds(inner) and inner.kinds()[mark]:
                again = (marks - step.kinds()[mark]) // inner.kinds()[mark]
                executed += again * len(inner.instructions)
        return executed

    def warps(self, block: int) -> int:
        """Warps of a multiprocessor of 64 warps, 65536 registers, 227 KiB of shared memory."""
        registers = -(-self.usage.registers // 8) * 8 * block
        blocks = min(65536 // registers, 2048 // block, 32)
        if self.usage.shared_bytes:
            blocks = min(blocks, (227 << 10) // (self.usage.shared_bytes + 1024))
        return blocks * block // 32


def kind(instruction: str) -> str:
    """Return the first word of an instruction's name: ``@!P0 LDG.E.U16 ...`` is LDG."""
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0].split(".")[0]


@cache
def compiled(source: str, element: str, architecture: str) -> dict[str, Code]:
    """Compile and disassemble the kernels of a source for one type; by their names in C++."""
    build = nvrtc.compiler().build(
        kernels.source_code(source, element), kernels.instances(source, element), architecture
    )
    listed = _disassemble(build.cubin)
    return {
        kernel: _read(build.usage[kernel], listed[f".text.{name}"])
        for kernel, name in build.names.items()
    }


def code(kernel: str, architecture: str) -> Code:
    """The machine code of one kernel: ``code("convolution<float, 64, true>", "90")``."""
    name, _, arguments = kernel.partition("<")
    source = next(source for source, known in kernels.CATALOG.items() if name in known)
    return compiled(source, arguments.rstrip(">").split(",")[0], architecture)[kernel]


def _disassemble(cubin: bytes) -> dict[str, str]:
    """The listing of each section of a cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        listing = subprocess.run(
            [nvdisasm(), "-c", file.name], capture_output=True, text=True, check=True
        ).stdout
    parts = re.split(r"^(\.text\.\S+):\n", listing, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def nvdisasm() -> Path:
    """Return the disassembler, from NVIDIA's wheel; ImportError if it is not installed."""
    spec = find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    for folder in folders:
        for program in Path(folder).glob("*/bin/nvdisasm"):
            return program
    raise ImportError("the disassembler is not installed: pip install nvidia-cuda-nvdisasm")


def _read(usage: nvrtc.Usage, listing: str) -> Code:
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in listing.splitlines():
        if label := re.match(r"(\.L_\w+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?)\s*;", line):
            instructions.append(found[1])
    loops = []
    for at, instruction in enumerate(instructions):
        jump = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", instruction)
        if jump and labels.get(jump[1], at + 1) < at:
            first = labels[jump[1]]
            loops.append(Loop(first, at, tuple(instructions[first : at + 1])))
    return Code(usage, tuple(instructions), tuple(loops))
