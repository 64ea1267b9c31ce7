"""The pretended CUDA driver: modules of PTX, and launches, which the interpreter runs.

Launches are held to what a device can: blocks, grids, registers are NVRTC's affair; functions and
streams must be the current device's; every access must lie in what is allocated there.
"""
# ruff: noqa: N802 (CUDA's names)

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from ptx.machine import run
from ptx.program import Program, read

from pretended_gpu import runtime
from pretended_gpu.interpose import StatusError
from pretended_gpu.runtime import put
from segaware_np.testing.cuda.emulate import KernelError

INVALID_VALUE, INVALID_HANDLE, NOT_FOUND, LAUNCH_FAILED = 1, 400, 500, 719
FUNCTIONS: list[tuple[str, str, Callable]] = []
launched: Counter = Counter()
findings: list[str] = []  # what launches that failed did wrong
executing = True  # False: launches count, and nothing runs


def function(letters: str) -> Callable[[Callable], Callable]:
    def declare(body: Callable) -> Callable:
        FUNCTIONS.append((body.__name__, letters, body))
        return body

    return declare


class HostMemory:
    """What is allocated on the current device, to the interpreter."""

    def load(self, address: np.ndarray, width: int, count: int, what: str) -> list[np.ndarray]:
        found = np.empty((count, len(address)), f"u{width}")
        for block, lanes, place in self._blocks(address, width, count, what):
            for i in range(count):
                found[i, lanes] = self._words(block, width)[place + i]
        return list(found)

    def store(self, address: np.ndarray, words: list[np.ndarray], what: str) -> None:
        width = words[0].itemsize
        for block, lanes, place in self._blocks(address, width, len(words), what):
            for i, word in enumerate(words):
                self._words(block, width)[place + i] = word[lanes]

    def _words(self, block: runtime.Block, width: int) -> np.ndarray:
        return block.bytes[: block.size // width * width].view(f"u{width}")

    def _blocks(self, address, width: int, count: int, what: str):  # type: ignore[no-untyped-def]
        """Yield the blocks that are met, the lanes that meet each, and where."""
        rest = np.ones(len(address), bool)
        while rest.any():
            first = int(address[rest][0])
            block = runtime.find(first, width * count)
            if block is None or block.device != runtime.state["device"]:
                raise KernelError(f"{first:#x} is not this device's memory: {what}")
            place = address.astype(np.int64) - block.address
            lanes = rest & (place >= 0) & (place + width * count <= block.size)
            if (place[lanes] % (width * count)).any():
                raise KernelError(f"misaligned: {what}")
            yield block, lanes, place[lanes] // width
            rest &= ~lanes


@dataclass
class Module:
    text: str
    device: int


@dataclass
class Function:
    program: Program
    name: str
    device: int


_objects: list[Module | Function] = []  # by handle


def _handle(thing: Module | Function) -> int:
    _objects.append(thing)
    return len(_objects)


@function("pp")
def cuModuleLoadData(target: int, image: int) -> None:
    text = ctypes.string_at(image).decode()
    put(target, _handle(Module(text, runtime.state["device"])), ctypes.c_size_t)


@function("p")
def cuModuleUnload(module: int) -> None:
    return None


@function("ppp")
def cuModuleGetFunction(target: int, handle: int, name: int) -> None:
    module, wanted = _objects[handle - 1], ctypes.string_at(name).decode()
    assert isinstance(module, Module)
    if f".entry {wanted}(" not in module.text:
        raise StatusError(NOT_FOUND)
    found = Function(read(module.text, wanted), wanted, module.device)
    put(target, _handle(found), ctypes.c_size_t)


@function("puuuuuuuppp")
def cuLaunchKernel(
    handle: int, grid: int, grid_y: int, grid_z: int, block: int, block_y: int, block_z: int,
    shared: int, stream: int | None, parameters: int, extra: int | None,
) -> None:  # fmt: skip
    kernel = _objects[handle - 1]
    assert isinstance(kernel, Function)
    here = runtime.state["device"]
    if kernel.device != here or runtime.streams.get(stream or 0, here) != here:
        raise StatusError(INVALID_HANDLE)
    if max(grid_y, grid_z, block_y, block_z) > 1 or block > 1024 or grid > 2**31 - 1 or shared:
        raise StatusError(INVALID_VALUE)
    launched[kernel.name] += 1
    if not executing:
        return
    sizes = kernel.program.parameters.values()
    places = (ctypes.c_void_p * len(sizes)).from_address(parameters)
    values = [ctypes.string_at(at, size) for at, size in zip(places, sizes, strict=True)]
    try:
        run(kernel.program, grid, block, values, HostMemory())
    except (KernelError, NotImplementedError) as error:
        findings.append(f"{kernel.name}: {error}")
        raise StatusError(LAUNCH_FAILED) from error


@function("p")
def cuCtxGetCurrent(target: int) -> None:
    put(target, 1 + runtime.state["device"], ctypes.c_size_t)


@function("p")
def cuCtxSetCurrent(context: int) -> None:
    return None


@function("p")
def cuCtxGetDevice(target: int) -> None:
    put(target, runtime.state["device"])


@function("pp")
def cuStreamGetCtx(stream: int | None, target: int) -> None:
    device = runtime.streams.get(stream or 0, runtime.state["device"])
    put(target, 1 + device, ctypes.c_size_t)


@function("pip")
def cuFuncGetAttribute(target: int, attribute: int, kernel: int) -> None:
    put(target, 0)


@function("pip")
def cuFuncSetAttribute(kernel: int, attribute: int, value: int) -> None:
    return None


_text = ctypes.create_string_buffer(b"an error of the pretended driver")


@function("ip")
def cuGetErrorName(status: int, target: int) -> None:
    put(target, ctypes.addressof(_text), ctypes.c_size_t)


@function("ip")
def cuGetErrorString(status: int, target: int) -> None:
    finding = findings[-1] if findings else "an error of the pretended driver"
    _text.value = finding.encode()[: len(_text) - 1]
    put(target, ctypes.addressof(_text), ctypes.c_size_t)
