"""The pretended CUDA runtime: devices, memory, copies, streams, events.

Functions are named and called as in CUDA's manual. Each device has memory of its own, which
is the host's; every block is filled with 0xFF (NaN, -1).
"""
# ruff: noqa: N802 (CUDA's names)

from __future__ import annotations

import bisect
import ctypes
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from pretended_gpu.interpose import StatusError

INVALID_VALUE, OUT_OF_MEMORY, INVALID_DEVICE = 1, 2, 101
NAME, CAPABILITY, CUDA = b"Pretended H100", (9, 0), 13000
LIMIT = 4 << 30  # bytes of a device
FUNCTIONS: list[tuple[str, str, Callable]] = []
counts: Counter = Counter()
devices, state = 2, {"device": 0, "error": 0}


def function(letters: str) -> Callable[[Callable], Callable]:
    """Declare a function of the runtime and the types of its parameters."""

    def declare(body: Callable) -> Callable:
        def call(*arguments: int) -> int | None:
            try:
                return body(*arguments)
            except StatusError as error:
                state["error"] = error.status
                raise

        FUNCTIONS.append((body.__name__, letters, call))
        return body

    return declare


def put(address: int, value: int, kind: type = ctypes.c_int) -> None:
    kind.from_address(address).value = value


# ---- memory: blocks by their addresses ---------------------------------------------------
class Block:
    def __init__(self, size: int, device: int | None) -> None:
        held = np.full(size + 512, 0xFF, np.uint8)
        start = -held.ctypes.data % 512
        self.bytes = held[start : start + size]
        self.address, self.size, self.device = self.bytes.ctypes.data, size, device


blocks: dict[int, Block] = {}  # device None: the host's
_starts: list[int] = []


def find(address: int, size: int = 1) -> Block | None:
    """Return the block in which these bytes lie."""
    at = bisect.bisect_right(_starts, address) - 1
    block = blocks[_starts[at]] if at >= 0 else None
    return block if block and address + size <= block.address + block.size else None


def _allocate(target: int, size: int, device: int | None) -> None:
    used = sum(b.size for b in blocks.values() if b.device == device)
    if device is not None and used + size > LIMIT:
        raise StatusError(OUT_OF_MEMORY)
    block = Block(size, device)
    blocks[block.address] = block
    bisect.insort(_starts, block.address)
    counts["allocations"] += 1
    put(target, block.address, ctypes.c_size_t)


def _free(address: int | None) -> None:
    if address is None:
        return
    if blocks.pop(address, None) is None:
        raise StatusError(INVALID_VALUE)
    _starts.remove(address)


@function("pz")
def cudaMalloc(target: int, size: int) -> None:
    _allocate(target, size, state["device"])


@function("pzp")
def cudaMallocAsync(target: int, size: int, stream: int) -> None:
    _allocate(target, size, state["device"])


@function("pzu")
def cudaHostAlloc(target: int, size: int, flags: int) -> None:
    _allocate(target, size, None)


@function("p")
def cudaFree(address: int | None) -> None:
    _free(address)


@function("pp")
def cudaFreeAsync(address: int | None, stream: int) -> None:
    _free(address)


@function("p")
def cudaFreeHost(address: int | None) -> None:
    _free(address)


@function("pp")
def cudaMemGetInfo(free: int, total: int) -> None:
    used = sum(b.size for b in blocks.values() if b.device == state["device"])
    put(free, LIMIT - used, ctypes.c_size_t)
    put(total, LIMIT, ctypes.c_size_t)


@function("pp")
def cudaPointerGetAttributes(attributes: int, address: int) -> None:
    block = find(address)
    kind = 0 if block is None else 1 if block.device is None else 2
    put(attributes, kind)
    put(attributes + 4, -2 if block is None or block.device is None else block.device)
    put(attributes + 8, address if kind == 2 else 0, ctypes.c_size_t)
    put(attributes + 16, address if kind == 1 else 0, ctypes.c_size_t)


def _copy(target: int, source: int, size: int, kind: int) -> None:
    """Copy, if each end lies where the kind of copy says: 1 to device, 2 to host, 3 on device."""
    for address, on_device in ((target, kind in (1, 3)), (source, kind in (2, 3))):
        block = find(address, size) if size else None
        if size and kind != 4 and on_device != (block is not None and block.device is not None):
            raise StatusError(INVALID_VALUE)
    counts[{1: "to device", 2: "to host", 3: "on device", 4: "any"}[kind]] += 1
    ctypes.memmove(target, source, size)


@function("ppzi")
def cudaMemcpy(target: int, source: int, size: int, kind: int) -> None:
    _copy(target, source, size, kind)


@function("ppzip")
def cudaMemcpyAsync(target: int, source: int, size: int, kind: int, stream: int) -> None:
    _copy(target, source, size, kind)


@function("pipiz")
def cudaMemcpyPeer(target: int, to: int, source: int, of: int, size: int) -> None:
    _copy(target, source, size, 3)


@function("pipizp")
def cudaMemcpyPeerAsync(target: int, to: int, source: int, of: int, size: int, _: int) -> None:
    _copy(target, source, size, 3)


@function("piz")
def cudaMemset(target: int, value: int, size: int) -> None:
    ctypes.memset(target, value, size)


@function("pizp")
def cudaMemsetAsync(target: int, value: int, size: int, stream: int) -> None:
    ctypes.memset(target, value, size)


# ---- devices -----------------------------------------------------------------------------
@function("p")
def cudaGetDevice(target: int) -> None:
    put(target, state["device"])


@function("i")
def cudaSetDevice(device: int) -> None:
    if not 0 <= device < devices:
        raise StatusError(INVALID_DEVICE)
    state["device"] = device


@function("p")
def cudaGetDeviceCount(target: int) -> None:
    put(target, devices)


@function("p")
def cudaDriverGetVersion(target: int) -> None:
    put(target, CUDA)


@function("p")
def cudaRuntimeGetVersion(target: int) -> None:
    put(target, CUDA)


# By cudaDeviceAttr: threads of a block, its shared memory, the grid, threads of a processor ...
_ATTRIBUTES = {1: 1024, 2: 1024, 3: 1024, 4: 64, 5: 2**31 - 1, 6: 65535, 7: 65535, 8: 49152}
_ATTRIBUTES |= {10: 32, 12: 65536, 16: 132, 39: 2048, 75: CAPABILITY[0], 76: CAPABILITY[1]}


@function("pii")
def cudaDeviceGetAttribute(target: int, attribute: int, device: int) -> None:
    put(target, _ATTRIBUTES.get(attribute, 0))


@function("pi")
def cudaGetDeviceProperties(target: int, device: int) -> None:
    """Fill what is read of cudaDeviceProp, whose beginning is the same in CUDA 12 and 13."""
    ctypes.memset(target, 0, 512)
    ctypes.memmove(target, NAME, len(NAME))
    put(target + 288, LIMIT, ctypes.c_size_t)
    put(target + 360, CAPABILITY[0])
    put(target + 364, CAPABILITY[1])


@function("pii")
def cudaDeviceCanAccessPeer(target: int, device: int, peer: int) -> None:
    put(target, 0)


@function("")
def cudaDeviceSynchronize() -> None:
    counts["synchronizations"] += 1


# ---- errors ------------------------------------------------------------------------------
_TEXTS = {1: b"cudaErrorInvalidValue", 2: b"cudaErrorMemoryAllocation"}
_TEXTS |= {101: b"cudaErrorInvalidDevice"}
_strings = {status: ctypes.create_string_buffer(text) for status, text in _TEXTS.items()}
_other = ctypes.create_string_buffer(b"an error of the pretended driver")


@function("i")
def cudaGetErrorName(status: int) -> int:
    return ctypes.addressof(_strings.get(status, _other))


@function("i")
def cudaGetErrorString(status: int) -> int:
    return ctypes.addressof(_strings.get(status, _other))


@function("")
def cudaGetLastError() -> int:
    error, state["error"] = state["error"], 0
    return error


@function("")
def cudaPeekAtLastError() -> int:
    return state["error"]


# ---- streams and events: work is done at once --------------------------------------------
streams: dict[int, int] = {}  # handle: device
_times: dict[int, float] = {}  # of events, by handle


def _new_stream(target: int) -> None:
    handle = 0x1000 + 16 * len(streams)
    streams[handle] = state["device"]
    put(target, handle, ctypes.c_size_t)


@function("p")
def cudaStreamCreate(target: int) -> None:
    _new_stream(target)


@function("pu")
def cudaStreamCreateWithFlags(target: int, flags: int) -> None:
    _new_stream(target)


@function("pui")
def cudaStreamCreateWithPriority(target: int, flags: int, priority: int) -> None:
    _new_stream(target)


@function("p")
def cudaStreamDestroy(stream: int) -> None:
    return None


@function("p")
def cudaStreamSynchronize(stream: int) -> None:
    counts["synchronizations"] += 1


@function("p")
def cudaStreamQuery(stream: int) -> None:
    return None


@function("ppu")
def cudaStreamWaitEvent(stream: int, event: int, flags: int) -> None:
    return None


@function("pp")
def cudaStreamIsCapturing(stream: int, target: int) -> None:
    put(target, 0)


def _new_event(target: int) -> None:
    handle = 0x1000 + 16 * len(_times)
    _times[handle] = 0.0
    put(target, handle, ctypes.c_size_t)


@function("p")
def cudaEventCreate(target: int) -> None:
    _new_event(target)


@function("pu")
def cudaEventCreateWithFlags(target: int, flags: int) -> None:
    _new_event(target)


@function("p")
def cudaEventDestroy(event: int) -> None:
    return None


@function("pp")
def cudaEventRecord(event: int, stream: int) -> None:
    _times[event] = time.perf_counter()


@function("p")
def cudaEventSynchronize(event: int) -> None:
    counts["synchronizations"] += 1


@function("p")
def cudaEventQuery(event: int) -> None:
    return None


@function("ppp")
def cudaEventElapsedTime(target: int, start: int, stop: int) -> None:
    put(target, 1e3 * (_times[stop] - _times[start]), ctypes.c_float)
