"""Arguments and results as the proofs handle them: nests of arrays, and their leaves by name.

A nest is an array, any other object, or a tuple, list or dictionary of nests.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from types import ModuleType
from typing import Any, NamedTuple

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


def walk(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield ``(name, leaf)`` for every leaf of a nest: ``x[0]``, ``x['weight']``, ``x.field``."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from walk(item, f"{name}[{key!r}]")
    elif isinstance(value, (tuple, list)):
        fields = getattr(value, "_fields", None)  # of a named tuple
        for i, item in enumerate(value):
            yield from walk(item, f"{name}.{fields[i]}" if fields else f"{name}[{i}]")
    else:
        yield name, value


def leaves(value: Any, name: str) -> Iterator[tuple[str, Array]]:
    """Yield ``(name, array)`` for every array and every number of a nest."""
    for found, leaf in walk(value, name):
        if is_array(leaf):
            yield found, leaf
        elif isinstance(leaf, (bool, int, float, complex)):
            yield found, np.asarray(leaf)


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """Return a nest of the same structure with ``function`` of every leaf, called in order."""
    if isinstance(value, dict):
        changed = copy(value)  # of its own class
        changed.update({key: map_leaves(function, item) for key, item in value.items()})
        return changed
    if isinstance(value, (tuple, list)):
        items = [map_leaves(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return function(value)


def replace_leaves(value: Any, new: Sequence[Any]) -> Any:
    """Return a nest of the same structure with other leaves."""
    following = iter(new)
    return map_leaves(lambda _: next(following), value)


def copied(value: Any) -> Any:
    """Return the nest with copies of its arrays, in containers of its own."""
    return map_leaves(lambda leaf: leaf.copy() if is_array(leaf) else leaf, value)


class Change(NamedTuple):
    """An entry of a nest that is not as it was."""

    name: str
    at: tuple[int, ...]
    before: Any
    after: Any


def first_change(now: Any, then: Any, name: str) -> Change | None:
    """Return the first change of a nest; None if there is none.

    Objects that are neither arrays nor plain values are not looked into.
    """
    old, new = dict(walk(then, name)), dict(walk(now, name))
    for leaf in old | new:
        before, after = old.get(leaf, "missing"), new.get(leaf, "missing")
        if is_array(before) and is_array(after) and before.shape == after.shape:
            index = first_difference(after, before)
            if index is not None:
                return Change(leaf, index, before[index], after[index])
        elif is_array(before) or isinstance(before, (bool, int, float, str)):
            same = type(before) is type(after) and not is_array(before)
            if not (same and (before == after or before != before)):
                return Change(leaf, (), before, after)
    return None


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
    rest = next((p.name for p in parameters if p.kind is p.VAR_POSITIONAL), None)
    extra = range(count - len(found))
    return found[:count] + [f"{rest}[{i}]" if rest else f"input{len(found) + i}" for i in extra]


def convert(inputs: Sequence[Any], dtype: Any, xp: ModuleType | None = None) -> tuple[Any, ...]:
    """Return copies of ``inputs``: real arrays as ``dtype``, all arrays in module ``xp``.

    An input that is a Python float becomes a 0-d array; within a nest it is a setting and stays as
    it is, as does anything that is not an array.
    """
    whole = (np.asarray(value) if isinstance(value, float) else value for value in inputs)
    return tuple(map_leaves(lambda leaf: _convert(leaf, dtype, xp), value) for value in whole)


def _convert(value: Any, dtype: Any, xp: ModuleType | None) -> Any:
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


def kind(value: Any) -> str:
    """Say in words what ``value`` is."""
    return f"an array of {value.dtype}" if is_array(value) else type(value).__name__
