"""Matrix product into a part of an array, by the BLAS that SciPy brings.

``numpy.matmul`` can neither add to what is there nor leave the GIL's side while it does. SciPy
publishes its BLAS for Cython, and what Cython can call, ctypes can call: with leading dimensions,
with beta, and without the GIL.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache

import numpy as np

_LARGEST = 2**31 - 1
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
    number = ctypes.c_float if c.dtype.char == "f" else ctypes.c_double
    sizes = [ctypes.byref(ctypes.c_int(size)) for size in (n, m, k, ldb, lda, ldc)]
    one, beta_ = ctypes.byref(number(1.0)), ctypes.byref(number(beta))
    blas(
        order_b, order_a, *sizes[:3], one, b.ctypes.data, sizes[3], a.ctypes.data, sizes[4],
        beta_, c.ctypes.data, sizes[5],
    )  # fmt: skip


def _layout(matrix: np.ndarray) -> tuple[bytes, int]:
    """Whether a matrix is stored by rows (N) or by columns (T), and the step between those."""
    size = matrix.itemsize
    ways = ((b"N", matrix.shape, matrix.strides), (b"T", matrix.shape[::-1], matrix.strides[::-1]))
    for order, (count, length), (step, unit) in ways:
        spaced = count == 1 or (step >= length * size and step % size == 0)
        if spaced and (length == 1 or unit == size):
            return order, step // size if count > 1 else length
    raise ValueError(f"expected contiguous rows or columns, got strides {matrix.strides}")


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
