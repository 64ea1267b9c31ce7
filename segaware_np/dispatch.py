"""Which form of a hot operation runs: the plain formula, or the fast one for the array at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from segaware_np.xp import Array, array_module

Op = TypeVar("Op", bound=Callable)


def fast(plain: Op, array: Array) -> Op:
    """Return the fastest implementation of ``plain`` for ``array``.

    The packages `segaware_np.cpu` (NumPy, float32 and float64) and `segaware_np.gpu` (CuPy,
    float16, float32 and float64) hold functions that have the names, signatures and results of
    the plain formulas in `segaware_np.ops`. Where there is none for this array's module and
    dtype (complex arrays in proofs, for instance) the plain formula itself is returned.

    Parameters
    ----------
    plain : callable
        A plain formula of `segaware_np.ops`.
    array : array
        The first of its arguments.
    """
    if array.dtype.kind not in "fiu":
        return plain
    if array_module(array) is not np:
        from segaware_np import gpu

        return _on(array.device, getattr(gpu, plain.__name__, plain))
    if array.dtype.char not in "fd":
        return plain
    from segaware_np import cpu

    return getattr(cpu, plain.__name__, plain)


def _on(device: Any, function: Op) -> Op:
    """Let a function work on a GPU that need not be the current one."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        with device:
            return function(*arguments)

    return run  # type: ignore[return-value]
