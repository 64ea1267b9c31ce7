"""Runs CUDA C++ kernels on the CPU: built with g++, threads as fibers, with or without sanitizers.

A kernel that is right for every order of threads and blocks gives the same result here as on a
GPU, slower by orders of magnitude; one that reads out of bounds, races, forgets a barrier or
overflows an index is found out, which on a GPU it may not be for years.
"""

from __future__ import annotations

import ctypes
import getpass
import hashlib
import os
import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

INCLUDE = Path(__file__).parent / "include"
SANITIZERS = ("address", "thread")  # "address" brings undefined behaviour (overflow) with it

_FLAGS: dict[str | None, list[str]] = {
    None: ["-O1", "-fPIC", "-shared", "-fno-gnu-unique"],
    "address": [
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
    ],
    "thread": ["-O1", "-fsanitize=thread"],
}
_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0",
    "TSAN_OPTIONS": "exitcode=66:halt_on_error=1:atexit_sleep_ms=0:report_signal_unsafe=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
}
_DECLARED = r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\s*\('
_TABLE = """
#line 1 "table of kernels"
#include "entry.h"
static const emulator::Entry table[] = {{ {entries} }};
#ifdef EMULATOR_SANITIZED
int main() {{ return emulator::serve(table); }}
#else
extern "C" const char* emulator_run(const emulator::Request* request, void** values) {{
  return emulator::run(table, *request, values);
}}
extern "C" void emulator_signature(int kernel, char* text) {{ table[kernel].signature(text); }}
#endif
"""


class KernelError(Exception):
    """A kernel did what a GPU would refuse, or might do wrong without a word."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel: its NumPy type, and whether it is a pointer (to const).

    Attributes
    ----------
    dtype : numpy.dtype
    pointer, const : bool

    Examples
    --------
    >>> print(Parameter(np.dtype("float32"), pointer=True, const=True))
    const float32*
    """

    dtype: np.dtype
    pointer: bool
    const: bool

    def __str__(self) -> str:
        return f"{'const ' if self.const else ''}{self.dtype}{'*' if self.pointer else ''}"


def compiler() -> str | None:
    """Return the path of the C++ compiler (``$CXX`` or g++), or None.

    Examples
    --------
    >>> isinstance(compiler(), str)
    True
    """
    return shutil.which(os.environ.get("CXX", "g++"))


@lru_cache
def has_sanitizer(sanitize: str) -> bool:
    """Whether the compiler builds, and this machine runs, programs with a sanitizer.

    Parameters
    ----------
    sanitize : {"address", "thread"}

    Examples
    --------
    >>> has_sanitizer("address") in (True, False)
    True
    """
    code = 'extern "C" __global__ void nothing(int* a) { a[0] = 1; }'
    result = np.zeros(1, np.int32)
    try:
        Module(code, sanitize=sanitize).launch("nothing", (1,), (1,), [result])
    except KernelError:
        return False
    return bool(result[0] == 1)


def cache_folder() -> Path:
    """Return the folder of builds: ``$SEGAWARE_EMULATOR_CACHE`` or one of this user's for a while.

    Examples
    --------
    >>> cache_folder().is_absolute()
    True
    """
    user = os.getuid() if hasattr(os, "getuid") else getpass.getuser()  # Windows has no numbers
    default = Path(tempfile.gettempdir()) / f"segaware-emulator-{user}"
    return Path(os.environ.get("SEGAWARE_EMULATOR_CACHE", default))


class Module:
    """A CUDA source, built for the CPU.

    Parameters
    ----------
    code : str
        CUDA C++ with kernels in it.
    kernels : sequence of str
        Kernels as C++ names them, templates with their arguments: ``"im2col<float, true>"``.
        If empty: all that are declared ``extern "C" __global__ void name(``.
    options : sequence of str
        Of these only ``-D...`` and ``-I...`` are passed on.
    sanitize : {None, "address", "thread"}
        "address" finds accesses out of bounds and undefined behaviour (integer overflow among
        it), "thread" finds races. A sanitized launch runs in a process of its own.
    name : str
        File name for the compiler's messages.

    Raises
    ------
    KernelError
        If there is no compiler or the source does not compile; with the compiler's words.

    Examples
    --------
    >>> code = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
    >>> x = np.arange(4, dtype="float32")
    >>> Module(code).launch("twice", grid=(1,), block=(4,), arguments=[x])
    >>> x.tolist()
    [0.0, 2.0, 4.0, 6.0]
    """

    def __init__(
        self,
        code: str,
        kernels: Sequence[str] = (),
        options: Sequence[str] = (),
        sanitize: str | None = None,
        name: str = "kernel.cu",
    ) -> None:
        self.kernels = list(kernels) or re.findall(_DECLARED, code)
        self.sanitize = sanitize
        entries = ", ".join(
            f"{{emulator::Kernel<&{k}>::call, emulator::Kernel<&{k}>::signature}}"
            for k in self.kernels
        )
        text = (
            f'#include "cuda_emulator.h"\n#line 1 "{name}"\n{_translate(code)}'
            f"{_TABLE.format(entries=entries)}"
        )
        self.path = _build(text, [o for o in options if o[:2] in ("-D", "-I")], sanitize)
        if sanitize is None:
            self._library = ctypes.CDLL(str(self.path))
            self._library.emulator_run.restype = ctypes.c_char_p

    def signature(self, kernel: str) -> list[Parameter]:
        """Return the parameters of a kernel (of a build without sanitizer)."""
        text = ctypes.create_string_buffer(4096)
        self._library.emulator_signature(self.kernels.index(kernel), text)
        return [
            Parameter(np.dtype(word.rstrip("*!")), "*" in word, "!" in word)
            for word in text.value.decode().split()
        ]

    def launch(
        self,
        kernel: str,
        grid: Sequence[int],
        block: Sequence[int],
        arguments: Sequence[np.ndarray | np.generic],
        shared_bytes: int = 0,
        seed: int | None = None,
    ) -> None:
        """Launch a kernel. As on a GPU, nothing is converted or checked.

        Parameters
        ----------
        arguments : sequence
            NumPy arrays with dimensions for pointers, which the kernel writes in place; NumPy
            scalars and 0-d structured arrays for values.
        seed : int, optional
            Fixes the order of blocks and threads; by default another one each time.

        Raises
        ------
        KernelError
            With the finding and the seed that shows it again.
        """
        seed = random.getrandbits(32) if seed is None else seed
        shape = [*grid, 1, 1][:3] + [*block, 1, 1][:3]
        if max(shape) > 2**31 - 1:
            raise KernelError(f"{kernel}: invalid grid or block, {grid} and {block}")
        head = [self.kernels.index(kernel), *shape, shared_bytes, seed, len(arguments)]
        request = np.array(head, np.uint64)
        finding = (
            self._run_here(request, arguments)
            if self.sanitize is None
            else self._run_sanitized(request, arguments)
        )
        if finding:
            raise KernelError(f"{kernel}: {finding} [seed {seed}]")

    def _run_here(self, request: np.ndarray, arguments: Sequence) -> str:
        held = [np.array(a.ctypes.data if _is_array(a) else a) for a in arguments]
        values = np.array([a.ctypes.data for a in held] or [0], np.uintp)
        addresses = (ctypes.c_void_p(a.ctypes.data) for a in (request, values))
        return self._library.emulator_run(*addresses).decode()

    def _run_sanitized(self, request: np.ndarray, arguments: Sequence) -> str:
        tape: list[bytes] = [request.tobytes()]
        owner: dict[tuple[int, int], int] = {}
        for i, argument in enumerate(arguments):
            data = argument.tobytes()
            kind = 0
            if _is_array(argument):
                place = (argument.ctypes.data, argument.nbytes)
                kind = 2 + owner[place] if argument.size and place in owner else 1
                owner.setdefault(place, i)
            tape.append(np.array([kind, len(data)], np.uint64).tobytes())
            tape.append(data if kind < 2 else b"")
        command = [str(self.path)]
        if self.sanitize == "thread" and (setarch := shutil.which("setarch")):
            command = [setarch, "-R", *command]  # it cannot cope with much address randomisation
        result = subprocess.run(
            command,
            input=b"".join(tape),
            capture_output=True,
            env={**os.environ, **_ENVIRONMENT},
            timeout=120,
        )
        if result.returncode:
            return f"exit {result.returncode}\n{result.stderr.decode(errors='replace')[:6000]}"
        start = 0
        for i, argument in enumerate(arguments):
            if _is_array(argument) and owner[argument.ctypes.data, argument.nbytes] == i:
                flat = np.frombuffer(result.stdout, argument.dtype, argument.size, start)
                argument[...] = flat.reshape(argument.shape)
                start += argument.nbytes
        return ""


def _is_array(argument: np.ndarray | np.generic) -> bool:
    return isinstance(argument, np.ndarray) and argument.ndim > 0


def _translate(code: str) -> str:
    """Rewrite the one thing that macros cannot say: declarations of shared memory."""
    align = r"(?:__align__\(\d+\)\s*)?"
    code = re.sub(
        rf"extern\s+__shared__\s+{align}([\w: ]+?)\s+(\w+)\s*\[\s*\]\s*;",
        r"\1* const \2 = (\1*)::emulator::dynamic_shared;",
        code,
    )
    code = re.sub(
        rf"__shared__\s+{align}([^;=]+?)\s+(\w+)\s*((?:\[[^\]]+\]\s*)*);",
        r"auto& \2 = ::emulator::shared<\1\3, __LINE__>();",
        code,
    )
    if "__shared__" in re.sub(r"//.*|/\*[\s\S]*?\*/", "", code):
        raise KernelError("a declaration of shared memory that the emulator cannot read")
    return code


def _build(text: str, options: list[str], sanitize: str | None) -> Path:
    """Compile, or find what an earlier run compiled from the same text, flags and headers."""
    gxx = compiler()
    if gxx is None:
        raise KernelError("no C++ compiler: install g++ or set CXX")
    # No contraction: a * b + c rounds twice, as NumPy's does.
    flags = ["-std=c++17", "-g", "-w", "-ffp-contract=off", *_FLAGS[sanitize], f"-I{INCLUDE}"]
    folders = [INCLUDE, *(Path(o[2:]) for o in options if o.startswith("-I"))]
    headers = [f.read_bytes() for d in folders for f in sorted(d.glob("*.*h"))]
    key = hashlib.sha256(repr((text, gxx, flags, options, headers)).encode()).hexdigest()[:24]
    path = cache_folder() / (key if sanitize else f"{key}.so")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        command = [gxx, *flags, *options, "-x", "c++", "-", "-o", str(partial)]
        result = subprocess.run(command, input=text, capture_output=True, text=True)
        if result.returncode:
            raise KernelError(f"g++ does not compile this:\n{result.stderr[:4000]}")
        partial.replace(path)
    return path
