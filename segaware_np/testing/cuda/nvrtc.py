"""Compiles CUDA C++ with NVIDIA's own compiler for any GPU, without a GPU, driver or CuPy.

NVRTC comes as a wheel: ``pip install nvidia-cuda-nvrtc nvidia-cuda-runtime``.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

ARCHITECTURES = ("75", "80", "86", "89", "90", "100", "120")  # Turing ... Blackwell


class CompileError(Exception):
    """NVRTC's words on a source that does not compile."""


@dataclass(frozen=True)
class Usage:
    """What one compiled kernel needs of the machine.

    Attributes
    ----------
    registers : int
        A thread's.
    spill_bytes : int
        A thread's: registers that did not fit and live in slow memory.
    shared_bytes : int
        A block's.

    Examples
    --------
    >>> Usage(registers=40, spill_bytes=0, shared_bytes=1024).registers
    40
    """

    registers: int  # a thread
    spill_bytes: int  # a thread: registers that did not fit and live in slow memory
    shared_bytes: int  # a block


@dataclass(frozen=True)
class Build:
    """Kernels compiled for one architecture.

    Attributes
    ----------
    usage : dict of Usage
        By the kernels' names in C++.
    names : dict of str
        By the same, their names in what was compiled.
    ptx : str
        NVIDIA's portable assembly.
    cubin : bytes
        The machine code, as an ELF file.

    Examples
    --------
    >>> code = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
    >>> build = compiler().build(code, ["twice"], architecture="90")
    >>> build.names, ".entry twice(" in build.ptx, build.cubin[1:4]
    ({'twice': 'twice'}, True, b'ELF')
    """

    usage: dict[str, Usage]
    names: dict[str, str]
    ptx: str
    cubin: bytes


class Compiler:
    """NVRTC and CUDA's headers, found in NVIDIA's wheels.

    Raises
    ------
    ImportError
        If one of them is missing; the message says what to install.

    Examples
    --------
    >>> code = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
    >>> compiler().compile(code, ["twice"], architecture="90")["twice"].spill_bytes
    0
    """

    def __init__(self) -> None:
        library = _find("cu*/lib/libnvrtc.so.*", "cuda_nvrtc/lib/libnvrtc.so.*")
        headers = _find("cu*/include/cuda_fp16.h", "cuda_runtime/include/cuda_fp16.h")
        if library is None:
            raise ImportError("NVRTC is not installed: pip install nvidia-cuda-nvrtc")
        if headers is None:
            raise ImportError("CUDA's headers are not installed: pip install nvidia-cuda-runtime")
        self.include = headers.parent
        self._nvrtc = ctypes.CDLL(str(library))
        version = ctypes.c_int(), ctypes.c_int()
        self._nvrtc.nvrtcVersion(*(ctypes.byref(v) for v in version))
        self.version = f"{version[0].value}.{version[1].value}"

    def compile(
        self, code: str, kernels: Sequence[str], architecture: str, name: str = "kernel.cu"
    ) -> dict[str, Usage]:
        """Compile to machine code for one architecture.

        Parameters
        ----------
        code : str
        kernels : sequence of str
            As C++ names them, templates with their arguments.
        architecture : str
            The compute capability without its dot: "90" for Hopper.

        Returns
        -------
        usage : dict
            For each of `kernels`, what it needs.

        Raises
        ------
        CompileError
        """
        return self.build(code, kernels, architecture, name).usage

    def build(
        self, code: str, kernels: Sequence[str], architecture: str, name: str = "kernel.cu"
    ) -> Build:
        """Compile as `compile` does, and keep what came out. CuPy's options, so CuPy's code.

        Parameters
        ----------
        code, kernels, architecture
            As of `compile`.

        Raises
        ------
        CompileError
        """
        program = ctypes.c_void_p()
        self._nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), code.encode(), name.encode(), 0, None, None
        )
        try:
            for kernel in kernels:
                self._nvrtc.nvrtcAddNameExpression(program, kernel.encode())
            options = (
                f"-arch=sm_{architecture}",
                "--std=c++17",
                "-ftz=true",
                "--device-as-default-execution-space",
                "--ptxas-options=-v",
                f"-I{self.include}",
            )
            encoded = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
            failed = self._nvrtc.nvrtcCompileProgram(program, len(options), encoded)
            log = self._bytes(program, "ProgramLog").decode()
            if failed:
                raise CompileError(f"sm_{architecture}: {log}")
            usage, names = _read_log(log), {k: self._lowered(program, k) for k in kernels}
            return Build(
                {kernel: usage[names[kernel]] for kernel in kernels},
                names,
                self._bytes(program, "PTX").decode(),
                self._bytes(program, "CUBIN"),
            )
        finally:
            self._nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        getattr(self._nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self._nvrtc, f"nvrtcGet{what}")(program, buffer)
        return buffer.raw if what == "CUBIN" else buffer.value

    def _lowered(self, program: ctypes.c_void_p, kernel: str) -> str:
        name = ctypes.c_char_p()
        self._nvrtc.nvrtcGetLoweredName(program, kernel.encode(), ctypes.byref(name))
        return (name.value or b"").decode()


@lru_cache
def compiler() -> Compiler:
    """Return the one `Compiler`; raises as it does."""
    return Compiler()


def _find(*patterns: str) -> Path | None:
    spec = find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    hits = (hit for folder in folders for p in patterns for hit in sorted(Path(folder).glob(p)))
    return next(hits, None)


def _read_log(log: str) -> dict[str, Usage]:
    """Read what ``ptxas -v`` says of each kernel, by its mangled name."""
    usage: dict[str, Usage] = {}
    kernel, spilled = "", 0
    function = re.compile(r"(?:Compiling entry function|Function properties for) '?([\w$]+)")
    for line in log.splitlines():
        if match := function.search(line):
            kernel = match[1]
        if match := re.search(r"(\d+) bytes spill stores", line):
            spilled = int(match[1])
        if match := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            usage[kernel] = Usage(int(match[1]), spilled, int(shared[1]) if shared else 0)
    return usage
