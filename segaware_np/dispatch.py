"""Which form of a hot operation runs: the plain formula, or the fast one for the array at hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np

from segaware_np.xp import Array, array_module

Op = TypeVar("Op", bound=Callable)


def fast(plain: Op, array: Array) -> Op:
    """Return the fastest implementation of ``plain`` for ``array``.

    A fast form has the name, the file name, the signature and the results of its plain formula:
    that of ``ops/softmax.py: softmax`` is ``cpu/softmax.py: softmax`` for NumPy arrays of float32
    and float64, and ``gpu/softmax.py: softmax`` for CuPy arrays, of float16 too. Where there is
    none for this array (complex ones in proofs, for instance) it is the plain formula itself.

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
        return _on(array.device, form("gpu", plain))
    return form("cpu", plain) if array.dtype.char in "fd" else plain


def device_of(array: Array) -> AbstractContextManager:
    """Return the device of an array as a context: what is made and computed inside lives there.

    Parameters
    ----------
    array : NumPy or CuPy array
    """
    return nullcontext() if array_module(array) is np else array.device


def follows(op: Op) -> Op:
    """Return an operation without kernels as one that runs on the GPU of its first argument.

    CuPy computes on the current device only, and refuses the arrays of another.

    Parameters
    ----------
    op : callable
        A forward or backward function of `segaware_np.ops`.
    """

    @wraps(op)
    def run(*arguments: Any, **options: Any) -> Any:
        device: Any = getattr(next(iter((*arguments, *options.values())), None), "device", None)
        if not hasattr(device, "__enter__"):  # NumPy's is a word
            return op(*arguments, **options)
        with device:
            return op(*arguments, **options)

    return run  # type: ignore[return-value]


@cache
def form(package: str, plain: Op) -> Op:
    """Return the form of a formula that stands in a package, else the formula itself.

    Parameters
    ----------
    package : {"cpu", "gpu"}
    plain : callable
        A plain formula of `segaware_np.ops`.
    """
    module = plain.__module__.replace(".ops.", f".{package}.")
    if find_spec(module) is None:
        return plain
    return getattr(import_module(module), plain.__name__, plain)


def _on(device: Any, function: Op) -> Op:
    """Let a function work on a GPU that need not be the current one."""

    @wraps(function)
    def run(*arguments: Any) -> Any:
        with device:
            return function(*arguments)

    return run  # type: ignore[return-value]
