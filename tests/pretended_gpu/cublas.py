"""The pretended cuBLAS: the products that CuPy and this library ask for, by NumPy."""
# ruff: noqa: N802 (CUDA's names)

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable

import numpy as np

from pretended_gpu import runtime
from pretended_gpu.interpose import StatusError
from pretended_gpu.runtime import put

NOT_SUPPORTED = 15
FUNCTIONS: list[tuple[str, str, Callable]] = []
called: Counter = Counter()
_TYPES = {0: np.float32, 1: np.float64, 2: np.float16, 4: np.complex64, 5: np.complex128}
_LETTERS = {"S": 0, "D": 1, "C": 4, "Z": 5}
_COMPUTE = {64: 2, 65: 2, 68: 0, 70: 1}  # cublasComputeType_t: type of alpha and beta
_modes: dict[str, int] = {"math": 0, "pointer": 0}


def function(letters: str) -> Callable[[Callable], Callable]:
    def declare(body: Callable) -> Callable:
        FUNCTIONS.append((body.__name__, letters, body))
        return body

    return declare


def _vector(address: int, kind: int, count: int, stride: int = 1) -> np.ndarray:
    """Elements on the current device, as far as the last of them."""
    dtype = np.dtype(_TYPES[kind])
    size = ((count - 1) * stride + 1) * dtype.itemsize
    block = runtime.find(address, size)
    if block is None or block.device != runtime.state["device"]:
        raise StatusError(runtime.INVALID_VALUE)
    start = address - block.address
    return block.bytes[start : start + size].view(dtype)[::stride]


def _matrix(address: int, kind: int, down: int, across: int, stride: int) -> np.ndarray:
    """A view of a matrix in which columns follow each other, `stride` apart."""
    flat = _vector(address, kind, (across - 1) * stride + down)
    step = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat, (down, across), (step, step * stride))


def _number(address: int, kind: int) -> np.ndarray:
    """alpha or beta: on the host, or by the mode of pointers on the device."""
    size = np.dtype(_TYPES[kind]).itemsize
    return np.frombuffer(ctypes.string_at(address, size), _TYPES[kind])[0]


def _multiply(
    operations: tuple[int, int], sizes: tuple[int, int, int], alpha: int, beta: int, scalars: int,
    a: tuple[int, int, int], b: tuple[int, int, int], c: tuple[int, int, int],
) -> None:  # fmt: skip
    """``c = alpha op(a) op(b) + beta c``; a matrix is its address, type and stride."""
    m, n, k = sizes
    if not m * n * k:
        raise StatusError(NOT_SUPPORTED)
    wide = np.promote_types(_TYPES[c[1]], np.float32)
    factors = []
    for (address, kind, stride), across, (down, wide_) in (
        (a, operations[0], (m, k)), (b, operations[1], (k, n)),
    ):  # fmt: skip
        shape = (wide_, down) if across else (down, wide_)
        matrix = _matrix(address, kind, *shape, stride).astype(wide)
        factors.append((matrix.conj() if across == 2 else matrix).T if across else matrix)
    target = _matrix(c[0], c[1], m, n, c[2])
    scale, keep = _number(alpha, scalars), _number(beta, scalars)
    product = scale.astype(wide) * (factors[0] @ factors[1])
    with np.errstate(over="ignore"):
        target[...] = product + (keep.astype(wide) * target if keep else 0)


def _gemm(kind: int) -> Callable:
    def gemm(_, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) -> None:  # type: ignore[no-untyped-def]
        called["gemm"] += 1
        places = ((a, kind, lda), (b, kind, ldb), (c, kind, ldc))
        _multiply((ta, tb), (m, n, k), alpha, beta, kind, *places)

    return gemm


def _gemm_strided(kind: int) -> Callable:
    def gemm(_, ta, tb, m, n, k, alpha, a, lda, sa, b, ldb, sb, beta, c, ldc, sc, count) -> None:  # type: ignore[no-untyped-def]
        called["gemmStridedBatched"] += 1
        step = np.dtype(_TYPES[kind]).itemsize
        for i in range(count):
            at = (a + i * sa * step, b + i * sb * step, c + i * sc * step)
            places = ((at[0], kind, lda), (at[1], kind, ldb), (at[2], kind, ldc))
            _multiply((ta, tb), (m, n, k), alpha, beta, kind, *places)

    return gemm


def _gemm_batched(kind: int) -> Callable:
    def gemm(_, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc, count) -> None:  # type: ignore[no-untyped-def]
        called["gemmBatched"] += 1
        pointers = [_addresses(at, count) for at in (a, b, c)]
        for at in zip(*pointers, strict=True):
            places = ((at[0], kind, lda), (at[1], kind, ldb), (at[2], kind, ldc))
            _multiply((ta, tb), (m, n, k), alpha, beta, kind, *places)

    return gemm


def _addresses(address: int, count: int) -> list[int]:
    """Pointers that lie on the device."""
    return _vector(address, 1, count).view(np.uint64).tolist()


def _dot(kind: int, conjugate: bool) -> Callable:
    def dot(_, n, x, step_x, y, step_y, target) -> None:  # type: ignore[no-untyped-def]
        called["dot"] += 1
        left, right = _vector(x, kind, n, step_x), _vector(y, kind, n, step_y)
        value = np.dot(left.conj() if conjugate else left, right).astype(_TYPES[kind])
        ctypes.memmove(target, value.tobytes(), value.nbytes)

    return dot


for letter, kind in _LETTERS.items():
    FUNCTIONS += [
        (f"cublas{letter}gemm", "piiiiippipippi", _gemm(kind)),
        (f"cublas{letter}gemmBatched", "piiiiippipippii", _gemm_batched(kind)),
        (f"cublas{letter}gemmStridedBatched", "piiiiippiqpiqppiqi", _gemm_strided(kind)),
    ]
    for name, conjugate in {"S": [("", 0)], "D": [("", 0)]}.get(letter, [("u", 0), ("c", 1)]):
        FUNCTIONS.append((f"cublas{letter}dot{name}", "pipipip", _dot(kind, bool(conjugate))))


@function("piiiiippiipiippiiii")
def cublasGemmEx(
    _, ta, tb, m, n, k, alpha, a, at, lda, b, bt, ldb, beta, c, ct, ldc, compute, algorithm
) -> None:  # type: ignore[no-untyped-def]
    called["GemmEx"] += 1
    places = ((a, at, lda), (b, bt, ldb), (c, ct, ldc))
    scalars = ct if ct in (4, 5) else _COMPUTE[compute]
    _multiply((ta, tb), (m, n, k), alpha, beta, scalars, *places)


@function("piiiiippiiqpiiqppiiqiii")
def cublasGemmStridedBatchedEx(
    _, ta, tb, m, n, k, alpha, a, at, lda, sa, b, bt, ldb, sb, beta, c, ct, ldc, sc, count,
    compute, algorithm,
) -> None:  # fmt: skip  # type: ignore[no-untyped-def]
    called["GemmStridedBatchedEx"] += 1
    scalars = ct if ct in (4, 5) else _COMPUTE[compute]
    steps = [np.dtype(_TYPES[kind]).itemsize * s for kind, s in ((at, sa), (bt, sb), (ct, sc))]
    for i in range(count):
        a_i, b_i, c_i = (x + i * step for x, step in zip((a, b, c), steps, strict=True))
        places = ((a_i, at, lda), (b_i, bt, ldb), (c_i, ct, ldc))
        _multiply((ta, tb), (m, n, k), alpha, beta, scalars, *places)


@function("p")
def cublasCreate(target: int) -> None:
    put(target, 0x100 + runtime.state["device"], ctypes.c_size_t)


@function("p")
def cublasDestroy(handle: int) -> None:
    return None


@function("pp")
def cublasSetStream(handle: int, stream: int) -> None:
    return None


@function("pi")
def cublasSetMathMode(handle: int, mode: int) -> None:
    _modes["math"] = mode


@function("pp")
def cublasGetMathMode(handle: int, target: int) -> None:
    put(target, _modes["math"])


@function("pi")
def cublasSetPointerMode(handle: int, mode: int) -> None:
    _modes["pointer"] = mode


@function("pp")
def cublasGetPointerMode(handle: int, target: int) -> None:
    put(target, _modes["pointer"])
