"""Python functions in the place of C functions: in libraries that are not there, or patched in.

CuPy links CUDA's runtime statically, so its functions are overwritten in memory with a jump; the
driver and cuBLAS are shared libraries, in whose place others of the same name are built and loaded.
For Linux on x86-64.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

TYPES = {
    "p": ctypes.c_void_p, "z": ctypes.c_size_t, "q": ctypes.c_longlong,
    "i": ctypes.c_int, "u": ctypes.c_uint, "f": ctypes.c_float,
}  # fmt: skip
NOT_SUPPORTED, UNKNOWN = 801, 999
_kept: list[object] = []  # what C holds on to
missing: list[str] = []  # functions that were called and are not pretended


class StatusError(Exception):
    """A call fails with this status."""

    def __init__(self, status: int) -> None:
        self.status = status


def c_function(name: str, function: Callable | None, signature: str = "") -> int:
    """Return the address of a C function that calls a Python one and returns a status.

    The Python function returns None (success), a number or a C string's address.
    """

    def call(*arguments: object) -> int:
        try:
            if function is None:
                missing.append(name)
                return NOT_SUPPORTED
            return function(*arguments) or 0
        except StatusError as error:
            return error.status
        except BaseException:
            traceback.print_exc()
            return UNKNOWN

    result = ctypes.c_size_t  # wide enough for a status and for an address
    pointer = ctypes.CFUNCTYPE(result, *(TYPES[letter] for letter in signature))(call)
    _kept.append(pointer)
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0


def build_library(name: str, functions: dict[str, int], folder: Path) -> None:
    """Build a shared library of these functions, and load it for all who ask for its name."""
    jumps = "\n".join(
        f'__attribute__((naked)) void {function}(void) {{ __asm__("jmp *slots+{8 * i}(%rip)"); }}'
        for i, function in enumerate(functions)
    )
    code = f"""__attribute__((visibility("hidden"))) void* slots[{len(functions)}];
        void set_slot(int i, void* function) {{ slots[i] = function; }}\n{jumps}"""
    path, versions = folder / name, folder / f"{name}.map"
    versions.write_text(f"{name} {{ global: *; }};")  # as NVIDIA names its symbols' version
    link = [f"-Wl,-soname,{name}", f"-Wl,--version-script={versions}"]
    command = ["gcc", "-O1", "-fPIC", "-shared", *link, "-x", "c", "-", "-o", path]
    subprocess.run(command, input=code, text=True, check=True)
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    library.set_slot.argtypes = [ctypes.c_int, ctypes.c_void_p]
    for i, address in enumerate(functions.values()):
        library.set_slot(i, address)
    _kept.append(library)


def symbols(path: Path, *options: str) -> dict[str, int]:
    """Return the symbols of a library, by ``nm``, with their places in it (0: undefined)."""
    listed = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True)
    found = re.findall(r"^(\w*)\s+[tTU] (\w+)", listed.stdout, re.M)
    return {name: int(place or "0", 16) for place, name in found}


def patch_library(path: Path, wanted: str, replace: Callable[[str], int]) -> int:
    """Load a library and overwrite each of its functions of these names with a jump.

    ``replace(name)`` gives the address to jump to. Returns how many were replaced.
    """
    ctypes.CDLL(str(path))
    maps = Path("/proc/self/maps").read_text().splitlines()
    base = int(next(line for line in maps if line.endswith(str(path))).split("-")[0], 16)
    places = {n: at for n, at in symbols(path).items() if at and re.fullmatch(wanted, n)}
    for name, place in places.items():
        _write_code(base + place, b"\x48\xb8" + replace(name).to_bytes(8, "little") + b"\xff\xe0")
    return len(places)


def _write_code(address: int, code: bytes) -> None:
    """Write machine code (``mov rax, address; jmp rax``) over what is there."""
    page = address & ~4095
    mprotect = ctypes.CDLL(None).mprotect
    mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert mprotect(page, 8192, 7) == 0, "memory of code cannot be made writable"
    ctypes.memmove(address, code, len(code))


def bind(functions: Iterable[tuple[str, str, Callable]]) -> Callable[[str], int]:
    """Return a function from a C name, with or without ``_v2``, ``_ptsz``, to an address."""
    known = {name: c_function(name, function, letters) for name, letters, function in functions}

    def find(name: str) -> int:
        plain = re.sub(r"_v\d+|_ptsz|_ptds", "", name)
        return known.get(plain) or c_function(name, None)

    return find
