"""Matrix product into a part of an array, by the BLAS that SciPy brings.

``numpy.matmul`` can neither add to what is there nor leave the GIL's side while it does. SciPy
publishes its BLAS for Cython, and what Cython can call, ctypes can call: with leading dimensions,
with beta, and without the GIL.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np

_LARGEST = 2**31 - 1
_INT = ctypes.sizeof(ctypes.c_int)
_Sizes = ctypes.c_int * 6
_SIGNATURE = re.compile(
    r"void \(char \*, char \*, int \*, int \*, int \*, (\w+) \*, \1 \*, int \*, \1 \*, int \*, "
    r"\1 \*, \1 \*, int \*\)"
)


def gemm(a: np.ndarray, b: np.ndarray, c: np.ndarray, beta: float = 0.0) -> None:
    """``c = a @ b + beta * c``, in place; with ``beta = 0`` whatever c held is not read.

    Parameters
    ----------
    a, b : (M, K) and (K, N) arrays, float32 or float64
        Each with rows that are contiguous, or the transpose of such an array.
    c : (M, N) array of the same dtype
        With rows that are contiguous. It must not overlap ``a`` or ``b``.
    beta : float
    """
    (m, k), n = a.shape, b.shape[1]
    if min(m, n, k) == 0:
        c[...] = beta * c if beta else 0
        return
    order_a, lda = _layout(a)
    order_b, ldb = _layout(b)
    order_c, ldc = _layout(c)
    blas = _blas(c.dtype.char)
    if blas is None or order_c == b"T" or max(m, n, k, lda, ldb, ldc) > _LARGEST:
        c[...] = a @ b + (beta * c if beta else 0)
        return
    # BLAS thinks in columns: it computes the transpose, c' = b' a'.
    sizes = _Sizes(n, m, k, ldb, lda, ldc)
    start = ctypes.addressof(sizes)
    n_, m_, k_, ldb_, lda_, ldc_ = range(start, start + ctypes.sizeof(sizes), _INT)
    one, scale = _number(c.dtype.char, 1.0), _number(c.dtype.char, beta)
    blas(
        order_b, order_a, n_, m_, k_, ctypes.byref(one), b.ctypes.data, ldb_, a.ctypes.data, lda_,
        ctypes.byref(scale), c.ctypes.data, ldc_,
    )  # fmt: skip


def _layout(matrix: np.ndarray) -> tuple[bytes, int]:
    """Whether a matrix is stored by rows (N) or by columns (T), and the step between those."""
    (rows, columns), (down, across), size = matrix.shape, matrix.strides, matrix.itemsize
    if columns == 1 or across == size:
        if rows == 1:
            return b"N", columns
        if down >= columns * size and down % size == 0:
            return b"N", down // size
    if rows == 1 or down == size:
        if columns == 1:
            return b"T", rows
        if across >= rows * size and across % size == 0:
            return b"T", across // size
    raise ValueError(f"expected contiguous rows or columns, got strides {matrix.strides}")


@lru_cache(maxsize=64)
def _number(char: str, value: float) -> ctypes.c_float | ctypes.c_double:
    return ctypes.c_float(value) if char == "f" else ctypes.c_double(value)


@cache
def _blas(char: str) -> Callable[..., None] | None:
    """SciPy's sgemm or dgemm, or None where its integers are not C ints."""
    from scipy.linalg import cython_blas

    capsule = cython_blas.__pyx_capi__[{"f": "sgemm", "d": "dgemm"}[char]]
    get_name = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)
    get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    name = get_name(("PyCapsule_GetName", ctypes.pythonapi))(capsule)
    if not _SIGNATURE.fullmatch(name.decode()):
        return None
    address = get_pointer(("PyCapsule_GetPointer", ctypes.pythonapi))(capsule, name)
    return ctypes.CFUNCTYPE(None, *[ctypes.c_char_p] * 2, *[ctypes.c_void_p] * 11)(address)
