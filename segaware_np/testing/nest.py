"""Arguments and results as the proofs handle them: flat lists of arrays with names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.xp import Array, array_module


def is_array(value: object) -> bool:
    """Whether ``value`` is a NumPy or CuPy array."""
    try:
        array_module(value)
    except TypeError:
        return False
    return value is not None


def is_real(value: Any) -> bool:
    """Whether ``value`` is an array of real floating-point numbers: one that has a gradient."""
    return is_array(value) and value.dtype.kind == "f"


def leaves(value: Any, name: str) -> Iterator[tuple[str, Array]]:
    """Yield ``(name, array)`` for every array in nested tuples, lists and dictionaries."""
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from leaves(item, f"{name}[{i}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{name}[{key!r}]")
    elif is_array(value):
        yield name, value
    elif isinstance(value, (bool, int, float, complex)):
        yield name, np.asarray(value)


def argument_names(function: Callable, count: int, names: Sequence[str] | None = None) -> list[str]:
    """Return names for ``count`` positional arguments, from the signature where it has them."""
    if names is not None:
        if len(names) != count:
            raise ValueError(f"names: expected {count}, one for each input, got {len(names)}")
        return list(names)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # builtins need not have a signature
        parameters = []
    found = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [found[i] if i < len(found) else f"input{i}" for i in range(count)]


def convert(inputs: Sequence[Any], dtype: Any, xp: ModuleType | None = None) -> tuple[Any, ...]:
    """Return copies of ``inputs``: real arrays as ``dtype``, all arrays in module ``xp``.

    Python floats become 0-d arrays; anything that is not an array passes through.
    """
    return tuple(_convert(value, dtype, xp) for value in inputs)


def _convert(value: Any, dtype: Any, xp: ModuleType | None) -> Any:
    if isinstance(value, float):
        value = np.asarray(value)
    if not is_array(value):
        return value
    xp = xp or array_module(value)
    if array_module(value) is not xp:
        value = to_host(value) if xp is np else xp.asarray(value)
    return xp.array(value, dtype=dtype if value.dtype.kind == "f" else value.dtype)


def to_host(array: Array) -> np.ndarray:
    """Return ``array`` in NumPy's memory; a device array is copied."""
    return np.asarray(array) if array_module(array) is np else array.get()


def first_difference(left: Array, right: Array) -> tuple[int, ...] | None:
    """Return the first index at which two arrays of one shape differ; a NaN equals a NaN."""
    a, b = to_host(left), to_host(right)
    different = (a != b) & ~((a != a) & (b != b))
    if not different.any():
        return None
    return tuple(int(i) for i in np.argwhere(different)[0])
