"""The same numbers laid out in memory in different ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from segaware_np.xp import Array, array_module


def contiguous(array: Array) -> Array:
    """Return a fresh copy in C order."""
    return array_module(array).array(array, order="C")


def fortran(array: Array) -> Array:
    """Return a copy in Fortran order: the first axis runs fastest."""
    return array_module(array).array(array, order="F")


def strided(array: Array) -> Array:
    """Return a copy that is every second entry of a larger array, along every axis."""
    buffer = _buffer(array, [2 * n for n in array.shape])
    every_second = (..., *(slice(1, None, 2) for _ in array.shape))
    view = buffer[every_second]
    view[...] = array
    return view


def reversed_axes(array: Array) -> Array:
    """Return a copy whose strides are all negative."""
    flip = (..., *(slice(None, None, -1) for _ in array.shape))
    return array_module(array).array(array[flip], order="C")[flip]


def channels_last(array: Array) -> Array:
    """Return a copy in which axis 1 runs fastest, as in images stored by pixel."""
    if array.ndim < 3:
        return fortran(array)
    xp = array_module(array)
    return xp.moveaxis(xp.ascontiguousarray(xp.moveaxis(array, 1, -1)), -1, 1)


def read_only(array: Array) -> Array:
    """Return a copy in C order that cannot be written to (NumPy only)."""
    copy = contiguous(array)
    copy.flags.writeable = False
    return copy


def layouts(array: Array) -> dict[str, Callable[[Array], Array]]:
    """Return the layouts that the module of ``array`` can have, by name."""
    found: dict[str, Callable[[Array], Array]] = {
        "C-ordered": contiguous,
        "Fortran-ordered": fortran,
        "non-contiguous": strided,
        "negative-stride": reversed_axes,
        "channels-last": channels_last,
    }
    if array_module(array) is np:
        found["read-only"] = read_only
    return found


def _buffer(array: Array, shape: list[int]) -> Array:
    # The gaps hold NaN (or an odd integer): code that reads them does not go unnoticed.
    gap = np.nan if array.dtype.kind in "fc" else 111
    return array_module(array).full(shape, gap, dtype=array.dtype)
