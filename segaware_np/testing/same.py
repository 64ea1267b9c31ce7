"""Proof that two functions compute the same, in every dtype and array module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.testing.errors import MismatchError, entry
from segaware_np.testing.nest import convert, is_array, leaves, to_host, walk
from segaware_np.xp import array_module

_RTOL = {"float16": 2e-2, "float32": 2e-5, "float64": 1e-11}


def check_same(
    function: Callable,
    reference: Callable,
    inputs: Sequence[Any],
    *,
    dtypes: Sequence[str] = ("float32", "float64"),
    modules: Sequence[ModuleType] = (np,),
    rtol: float | None = None,
) -> None:
    """Prove that ``function`` computes what ``reference`` computes in float64 on NumPy.

    Parameters
    ----------
    function, reference : callable
        Take the same arguments; return an array, or nested tuples, lists or dictionaries of them
        with None where there is none.
    inputs : sequence
        Real arrays are converted to each dtype, all arrays to each module; the reference gets the
        same numbers, after any rounding.
    dtypes : sequence of str
        In which ``function`` is tried. Its real results must have the dtype of its inputs, unless
        they are Python's own numbers.
    modules : sequence of module
        ``numpy``, ``cupy`` or both. Its results must be of the module of its inputs.
    rtol : float, optional
        Allowed difference relative to the largest entry of each result; by default 2e-2, 2e-5 and
        1e-11 in float16, float32 and float64.

    Raises
    ------
    MismatchError
        If a result has another value, shape, dtype or module; the message names the result, the
        worst entry and both values. Infinities must agree, and a NaN equals a NaN.

    Examples
    --------
    >>> check_same(np.log1p, lambda x: np.log(1 + x), [np.ones(3)])
    """
    for module in modules:
        for dtype in dtypes:
            arguments = convert(inputs, dtype, module)
            expected = dict(leaves(reference(*convert(arguments, np.float64, np)), "result"))
            result = function(*arguments)
            found = dict(leaves(result, "result"))
            where = f"in {dtype} with {module.__name__}"
            if found.keys() != expected.keys():
                raise MismatchError(
                    f"expected results {sorted(expected)}, got {sorted(found)} {where}"
                )
            plain = {name for name, leaf in walk(result, "result") if not is_array(leaf)}
            for name, got in found.items():
                if name not in plain and array_module(got) is not module:
                    raise MismatchError(f"{name} {where}: got a {type(got).__module__} array")
                if name not in plain and got.dtype.kind == "f" and got.dtype != dtype:
                    raise MismatchError(f"{name} {where}: got dtype {got.dtype}", name=name)
                tolerance = _RTOL[str(np.dtype(dtype))] if rtol is None else rtol
                compare(name, to_host(got), expected[name], tolerance, where)


def compare(name: str, got: np.ndarray, want: np.ndarray, rtol: float, where: str = "") -> None:
    """Raise unless two arrays agree to ``rtol`` of the largest finite entry of ``want``.

    Raises
    ------
    MismatchError
    """
    where = f" {where}" if where else ""
    if got.shape != want.shape:
        raise MismatchError(
            f"{name}{where}: expected shape {want.shape}, got {got.shape}", name=name
        )
    a, b = np.asarray(got, np.float64), np.asarray(want, np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    apart = np.where(same, 0.0, np.abs(np.subtract(a, b, where=~same, out=np.zeros(a.shape))))
    limit = rtol * float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    wrong = ~(apart <= limit)
    if wrong.any():
        order = np.where(np.isnan(apart), np.inf, apart)
        index = tuple(int(i) for i in np.unravel_index(order.argmax(), order.shape))
        raise MismatchError(
            f"{entry(name, index)}{where}: expected {b[index]:.15g}, got {a[index]:.15g} "
            f"(off by {apart[index]:.3g}, allowed {limit:.3g}; {int(wrong.sum())} of {a.size} "
            f"entries differ)",
            name=name,
            index=index,
        )
