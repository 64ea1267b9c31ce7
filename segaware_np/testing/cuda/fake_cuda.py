"""``cupy.cuda`` of the strict stand-in: pretended devices, streams and events."""

from __future__ import annotations

import ctypes
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import numpy as np

devices = 1  # how many there are
_entered = [0]  # devices, the current one last
_streams: dict[int, list[Stream]] = {}  # of each device, the current one last


def current_device() -> int:
    return _entered[-1]


class Device:
    """A pretended device, or one that is not there."""

    compute_capability = "90"

    def __init__(self, id: int | None = None) -> None:
        self.id = current_device() if id is None else id

    def __enter__(self) -> Device:
        if not 0 <= self.id < devices:
            raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        _entered.append(self.id)
        return self

    def __exit__(self, *_: Any) -> None:
        _entered.pop()

    def synchronize(self) -> None:
        return None


class Stream:
    """A stream. All work is done at once, so that only its identity counts."""

    def __enter__(self) -> Stream:
        _streams.setdefault(current_device(), []).append(self)
        return self

    def __exit__(self, *_: Any) -> None:
        _streams[current_device()].pop()

    def synchronize(self) -> None:
        return None


_NULL = Stream()


def get_current_stream() -> Stream:
    """The stream of the current device: each device has its own."""
    return (_streams.get(current_device()) or [_NULL])[-1]


class Event:
    """A point in time: the host's."""

    def record(self, stream: Stream | None = None) -> None:
        self.time = perf_counter()

    def synchronize(self) -> None:
        return None


def get_elapsed_time(start: Event, stop: Event) -> float:
    return 1e3 * (stop.time - start.time)


def is_available() -> bool:
    return True


def _matrix(address: int, dtype: type, down: int, across: int, stride: int) -> np.ndarray:
    """The matrix at an address, of cuBLAS's order: `stride` elements from column to column."""
    held: Any = (ctypes.c_char * (np.dtype(dtype).itemsize * stride * across)).from_address(address)
    return np.frombuffer(held, np.dtype(dtype)).reshape(across, stride)[:, :down].T


def _gemm(
    handle: int, across_a: int, across_b: int, m: int, n: int, k: int,
    alpha: int, a: int, a_type: int, a_stride: int, b: int, b_type: int, b_stride: int,
    beta: int, c: int, c_type: int, c_stride: int, compute: int, algorithm: int,
) -> None:  # fmt: skip
    """``c = alpha op(a) op(b) + beta c`` of float16 factors, with float32 sums."""
    if (a_type, b_type, c_type, compute) != (2, 2, 0, cublas.CUBLAS_COMPUTE_32F):
        raise TypeError("the stand-in's gemmEx knows float16 factors of a float32 sum")
    if handle != current_device():
        raise RuntimeError(f"a handle of GPU {handle} used on GPU {current_device()}")
    left = _matrix(a, np.float16, *((k, m) if across_a else (m, k)), a_stride)
    right = _matrix(b, np.float16, *((n, k) if across_b else (k, n)), b_stride)
    factors = [np.ctypeslib.as_array(ctypes.cast(at, _FLOAT), (1,))[0] for at in (alpha, beta)]
    target = _matrix(c, np.float32, m, n, c_stride)
    product = (left.T if across_a else left).astype("f") @ (right.T if across_b else right)
    target[...] = factors[0] * product + factors[1] * target


class CompileException(Exception):  # noqa: N818 (CuPy's name)
    """As in ``cupy.cuda.compiler``."""


_FLOAT = ctypes.POINTER(ctypes.c_float)
cublas = SimpleNamespace(
    CUBLAS_OP_N=0, CUBLAS_OP_T=1, CUBLAS_COMPUTE_32F=68, CUBLAS_GEMM_DEFAULT=-1, gemmEx=_gemm
)
compiler = SimpleNamespace(CompileException=CompileException)
device = SimpleNamespace(get_cublas_handle=current_device)
nvrtc = SimpleNamespace(getVersion=lambda: (13, 0))
runtime = SimpleNamespace(
    getDeviceCount=lambda: devices, runtimeGetVersion=lambda: 13000, CUDA_R_32F=0, CUDA_R_16F=2
)
