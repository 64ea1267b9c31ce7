"""Proof that a function only computes: no side effects, whatever the layout of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segaware_np.testing.errors import PurityError, entry
from segaware_np.testing.layouts import contiguous, layouts
from segaware_np.testing.nest import argument_names, first_difference, is_array, leaves, to_host
from segaware_np.testing.same import MismatchError, compare
from segaware_np.xp import Array, array_module


def check_pure(
    function: Callable,
    inputs: Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    may_alias: bool = False,
) -> None:
    """Prove that ``function`` depends on nothing but the values of its arguments.

    * It does not write to them.
    * What it returns does not share their memory, so that writing to the one later leaves the
      other alone.
    * Called again, it returns the same bits.
    * Non-contiguous, Fortran-ordered, channels-last, negative-stride and read-only arguments give
      the same result as C-ordered ones (to 1000 units in the last place of the largest entry:
      sums may be taken in another order).

    Parameters
    ----------
    function : callable
        Returns an array, or nested tuples, lists or dictionaries of them. Of a forward function
        take the output, without its cache.
    inputs : sequence
        NumPy or CuPy arrays and anything else; what is not an array is passed on.
    names : sequence of str, optional
        Names for the messages; by default those of the function's parameters.
    may_alias : bool
        Whether results may be views of the arguments.

    Raises
    ------
    PurityError
        With the argument, the layout and the first or worst entry.

    Examples
    --------
    >>> check_pure(lambda x: x.T, [np.ones((2, 3))])
    Traceback (most recent call last):
    segaware_np.testing.errors.PurityError: result shares memory with argument x: return a copy
    """
    names = argument_names(function, len(inputs), names)
    plain = [contiguous(value) if is_array(value) else value for value in inputs]
    expected = _call(function, plain, plain, names, "C-ordered")
    for result, array in expected.items():
        for name, argument in zip(names, plain, strict=True):
            if not may_alias and is_array(argument) and _shared(array, argument):
                raise PurityError(
                    f"{result} shares memory with argument {name}: return a copy", name=name
                )
    expected = {name: to_host(array).copy() for name, array in expected.items()}
    for result, array in _call(function, plain, plain, names, "C-ordered").items():
        index = first_difference(array, expected[result])
        if index is not None:
            raise PurityError(
                f"{entry(result, index)} was {expected[result][index]} at the first call and "
                f"{array[index]} at the second, with the same arguments",
                name=result,
                index=index,
            )
    for at, value in enumerate(plain):
        for layout, arrange in layouts(value).items() if is_array(value) else ():
            arranged = [*plain[:at], arrange(value), *plain[at + 1 :]]
            found = _call(function, arranged, plain, names, f"{layout} {names[at]}")
            _compare(found, expected, f"with {layout} {names[at]}", names[at])


def _call(
    function: Callable, inputs: list[Any], values: list[Any], names: Sequence[str], layout: str
) -> dict[str, Array]:
    """Call and return the results by name; raise if an argument then differs from ``values``."""
    before = [value.copy() if is_array(value) else value for value in values]
    try:
        result = function(*inputs)
    except ValueError as error:
        if "read-only" in str(error) and layout.startswith("read-only"):
            raise PurityError(f"the function writes to its argument: {layout}: {error}") from error
        raise
    for name, now, then in zip(names, inputs, before, strict=True):
        index = first_difference(now, then) if is_array(then) else None
        if index is not None:
            raise PurityError(
                f"the function writes to its argument {name} ({layout}): {entry(name, index)} "
                f"was {then[index]} and is now {now[index]}",
                name=name,
                index=index,
            )
    return dict(leaves(result, "result"))


def _shared(a: Array, b: Array) -> bool:
    xp = array_module(b)
    return array_module(a) is xp and bool(xp.shares_memory(a, b))


def _compare(
    found: dict[str, Array], expected: dict[str, np.ndarray], where: str, name: str
) -> None:
    if found.keys() != expected.keys():
        raise PurityError(f"{where}: expected results {sorted(expected)}, got {sorted(found)}")
    for result, array in found.items():
        got, want = to_host(array), expected[result]
        if got.dtype != want.dtype:
            raise PurityError(
                f"{result} {where}: expected {want.dtype}, got {got.dtype}", name=name
            )
        exact = want.dtype.kind not in "fc"
        try:
            compare(result, got, want, 0.0 if exact else 1000 * np.finfo(want.dtype).eps, where)
        except MismatchError as error:
            raise PurityError(str(error), name=name, index=error.index) from None
