"""Proof that a function only computes: no side effects, whatever the layout of its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from segaware_np.testing.errors import PurityError, entry
from segaware_np.testing.layouts import contiguous, layouts
from segaware_np.testing.nest import (
    argument_names,
    copied,
    first_change,
    first_difference,
    is_array,
    leaves,
    map_leaves,
    replace_leaves,
    to_host,
    walk,
)
from segaware_np.testing.same import MismatchError, compare
from segaware_np.xp import Array, array_module


def check_pure(
    function: Callable,
    inputs: Sequence[Any],
    *,
    names: Sequence[str] | None = None,
    may_alias: bool = False,
    rtol: float | None = None,
) -> None:
    """Prove that ``function`` depends on nothing but the values of its arguments.

    * It does not write to them.
    * What it returns does not share their memory, so that writing to the one later leaves the
      other alone.
    * Called again, it returns the same bits.
    * Non-contiguous, Fortran-ordered, channels-last, negative-stride and read-only arguments give
      the same result as C-ordered ones, to `rtol`: sums may be taken in another order.

    Parameters
    ----------
    function : callable
        Returns an array, or nested tuples, lists or dictionaries of them. Of a forward function
        take the output, without its cache.
    inputs : sequence
        NumPy or CuPy arrays, nests of them and anything else; what is not an array is passed on.
    names : sequence of str, optional
        Names for the messages; by default those of the function's parameters.
    may_alias : bool
        Whether results may be views of the arguments.
    rtol : float, optional
        Allowed difference between layouts relative to the largest entry of each result; by default
        1000 units in the last place of its dtype.

    Raises
    ------
    PurityError
        With the argument, the layout and the first or worst entry.

    Examples
    --------
    >>> check_pure(lambda x: x.T, [np.ones((2, 3))])
    Traceback (most recent call last):
    segaware_np.testing.errors.PurityError: result shares memory with argument x: return a copy \
or allow it with may_alias=True
    """
    names = argument_names(function, len(inputs), names)
    plain = tuple(map_leaves(lambda leaf: contiguous(leaf) if is_array(leaf) else leaf, inputs))
    arguments = [leaf for pair in zip(plain, names, strict=True) for leaf in walk(*pair)]
    expected = _call(function, plain, plain, names, "C-ordered")
    for result, array in expected.items():
        for name, argument in arguments:
            if not may_alias and is_array(argument) and _shared(array, argument):
                raise PurityError(
                    f"{result} shares memory with argument {name}: return a copy or allow it "
                    f"with may_alias=True",
                    name=name,
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
    values = [value for _, value in arguments]
    for at, (name, value) in enumerate(arguments):
        for layout, arrange in layouts(value).items() if is_array(value) else ():
            arranged = replace_leaves(plain, [*values[:at], arrange(value), *values[at + 1 :]])
            found = _call(function, arranged, plain, names, f"{layout} {name}")
            _compare(found, expected, f"with {layout} {name}", name, rtol)


def _call(
    function: Callable,
    inputs: tuple[Any, ...],
    values: tuple[Any, ...],
    names: Sequence[str],
    layout: str,
) -> dict[str, Array]:
    """Call and return the results by name; raise if an argument then differs from ``values``."""
    before, given = copied(values), replace_leaves(inputs, [leaf for _, leaf in walk(inputs, "")])
    try:
        result = function(*given)
    except ValueError as error:
        if "read-only" in str(error) and layout.startswith("read-only"):
            raise PurityError(
                f"the function writes to its argument, or demands to: {layout}: {error}"
            ) from error
        raise
    for name, now, then in zip(names, given, before, strict=True):
        if change := first_change(now, then, name):
            raise PurityError(
                f"the function writes to its argument {name} ({layout}): "
                f"{entry(change.name, change.at)} was {change.before} and is now "
                f"{change.after}",
                name=change.name,
                index=change.at,
            )
    return dict(leaves(result, "result"))


def _shared(a: Array, b: Array) -> bool:
    xp = array_module(b)
    return array_module(a) is xp and bool(xp.shares_memory(a, b))


def _compare(
    found: dict[str, Array],
    expected: dict[str, np.ndarray],
    where: str,
    name: str,
    rtol: float | None,
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
        limit = 0.0 if exact else rtol or 1000 * float(np.finfo(want.dtype).eps)
        try:
            compare(result, got, want, limit, where)
        except MismatchError as error:
            raise PurityError(str(error), name=name, index=error.index) from None
